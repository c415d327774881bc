"""What a run needs and costs, by arithmetic: FLOP, bytes of a device, what devices tell each other.

`plan` makes a run without a device or an array, the others count, `page` writes down what
`jaxfdsl dryrun` prints. `run.meter` takes a model's FLOP from here too.
"""
