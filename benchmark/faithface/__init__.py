"""faithface: benchmark explainers of face models. The public names, and nothing else."""
