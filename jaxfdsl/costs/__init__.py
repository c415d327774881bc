"""What a run costs, by arithmetic: FLOP of a model, and what rented devices can do."""
