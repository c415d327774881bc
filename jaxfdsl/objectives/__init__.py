"""What a run minimises: each objective says what the model sees and what its outputs cost."""
