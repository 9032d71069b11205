"""What ships in the box: explainers, models and datasets, registered through the same hooks as anybody's."""
