"""The builtin suites: TOML files that say which models, datasets, explainers and protocols make a board."""
