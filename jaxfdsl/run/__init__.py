"""What a training run keeps, resumes from, watches and tells, beside the loop in `train`."""
