"""How to retrain Pocket: the commands, in order, and how long each takes on two CPU cores.

    pip install -r requirements-train.txt

    python -m modules.training.toyland      fetch and draw icons, scenes      35 min
    python -m modules.training.autoencoder  pictures to latents and back      1 s a step
    python -m modules.training.latents      draw, caption, encode             2 min a chunk
    python -m modules.training.denoiser     the U-Net and the class tokens    1.4 s a step
    python -m modules.training.revive       go on from the shipped weights, where the run is gone
    python -m modules.training.export       write assets/pocket
    python -m modules.training.control      a ControlNet, then export         0.25 s a sample, one core
    python -m modules.training.rebase       the ControlNet goes on with a base that has moved
    python -m modules.training.sight        sees depth                        10 min, one core
    python -m modules.training.posture      sees joints, for those scores     10 min, one core
    python -m modules.training.obedience    scores of the ControlNet
    python -m modules.training.judge        names things, for the scores      3 min, one core
    python -m modules.training.evaluate     scores, plots, contact sheets     30 min; 3 with --quick

Every command explains itself with --help. The autoencoder, the latents, the denoiser and the ControlNets can
be killed at any moment and go on from where they were. A new export of the base removes its ControlNets:
they belong to the weights that they were trained on.
"""

if __name__ == "__main__":
    print(__doc__)
