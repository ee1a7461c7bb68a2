"""First stages, which map pixels to the latent grid and back, and what trains them."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """First stages and their losses."""
    return [
        Component("model", "identity", "ldmkit_first_stages.identity:Identity", "pixel space: the latent is the image"),
        Component("model", "kl", "ldmkit_first_stages.kl:KLAutoencoder", "convolutional KL autoencoder"),
        Component("model", "vq", "ldmkit_first_stages.vq:VQAutoencoder", "convolutional autoencoder with a codebook"),
        Component("loss", "l1-kl", "ldmkit_first_stages.l1_kl:L1KL", "absolute or squared error plus KL to N(0, I)"),
        Component(
            "loss",
            "perceptual-adversarial",
            "ldmkit_first_stages.perceptual_adversarial:PerceptualAdversarial",
            "error, LPIPS, PatchGAN, and KL or codebook",
        ),
    ]
