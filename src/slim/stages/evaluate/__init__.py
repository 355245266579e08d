"""Stage 9: accuracy per group and attention quality, for the models that every run compares."""
