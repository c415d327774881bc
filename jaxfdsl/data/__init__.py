"""Batches as a pure function of the config and the step: sources, order, and work on images."""
