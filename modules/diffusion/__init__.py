"""The mathematics of diffusion lives here: tensors and schedulers, no weights and no user interface.

The contract of the room, stated once:

- A sample is ``x = alpha * x_0 + sigma * eps`` with ``alpha**2 + sigma**2 == 1`` wherever a network or a
  caller sees it, whatever scale the scheduler keeps inside. SNR is the power ratio, alpha**2 over sigma**2,
  and its logarithm is natural.
- A network is ``predict(x, t, conditions) -> prediction``: x is (k * B, C, H, W) for k conditions, t one
  number in training steps that may lie between two of them, and the prediction of the kind that its
  ``NoiseSchedule`` names.
- A denoiser is ``denoise(x, t) -> Prediction``: the network with its conditions inside, made by
  ``guidance.guided``. Inpainting and classifier guidance are denoisers around denoisers; image-to-image only
  chooses where to start.
- ``sampling.sample(denoise, scheduler, start, steps)`` is the one loop. It yields a Step for every network
  call, and closing it frees everything.
- A guidance weight of 1 is no guidance; a mask of 1 is repainted.
"""
