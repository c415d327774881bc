"""What a training run keeps, resumes from, watches and tells, beside the loop in `train`.

`keeping` saves, `resume` starts and continues, `provenance` says whose weights these are;
`logbook` writes the metrics, with the rates of `meter`, and `nonfinite` looks at them.
"""
