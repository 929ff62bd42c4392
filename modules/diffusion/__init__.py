"""The mathematics of diffusion lives here: tensors and schedulers, no files and no user interface."""
