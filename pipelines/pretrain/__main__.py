"""Pretrain the embedded backbone on procedural images; nothing is downloaded.

    python -m pipelines.pretrain --output runs/pretrain

Formula-driven supervised learning: a fresh batch of procedural images each step, and as targets numbers that a formula
gives for each image. It runs on a GPU when there is one; interrupted and started again, it goes on from its last state.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fedsim.models.tiny_vit import TinyViT
from pipelines.pretrain.descriptors import Descriptors
from pipelines.pretrain.images import draw

_SIZE = 32
_FIT_IMAGES = 8192
_FIT_BATCH = 1 << 40  # beyond every training batch: the descriptors are fitted on images of their own
_WARMUP = 100


def pretrain(
    output: Path, *, steps: int, batch: int, lr: float, seed: int, save_every: int, fit_images: int = _FIT_IMAGES
) -> Path:
    """Train, with a state every ``save_every`` steps, and write the weights as float16 safetensors.

    Args:
        output: folder of the state (``state.pt``) and the weights (``tiny-vit.safetensors``).
        steps, batch, lr, seed: of AdamW with warm-up and cosine decay.
        save_every: steps between states.
        fit_images: images that the descriptors are fitted on.

    Returns:
        Path of the weights.
    """
    output.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    network = TinyViT().to(device)
    describe = Descriptors(_pixels(draw(seed, _FIT_BATCH, fit_images, _SIZE)), seed).to(device)
    head = nn.Linear(network.width, len(describe.projection.T)).to(device)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr, betas=(0.9, 0.98), weight_decay=0.02)
    trained = nn.ModuleDict({"network": network, "head": head})
    settings = {"steps": steps, "batch": batch, "lr": lr, "seed": seed}
    first = _restore(output / "state.pt", trained, optimizer, settings, device)
    started, mean_loss = time.perf_counter(), math.nan
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / _WARMUP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        images = _pixels(draw(seed, step, batch, _SIZE)).to(device)
        loss = (head(network((images - 0.5) / 0.5)) - describe(images)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        mean_loss = loss.item() if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * loss.item()
        if (step + 1) % save_every == 0 or step + 1 == steps:
            rate = (step + 1 - first) * batch / (time.perf_counter() - started)
            print(f"step {step + 1}/{steps}  loss {mean_loss:.4f}  {rate:.0f} images/s", flush=True)
            _save(output / "state.pt", trained, optimizer, settings, step + 1)
    path = output / "tiny-vit.safetensors"
    save_file({name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}, path)
    return path


def _pixels(images: object) -> Tensor:
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255


def _save(
    path: Path, trained: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, float], step: int
) -> None:
    temporary = path.with_suffix(".tmp")
    state = {"trained": trained.state_dict(), "optimizer": optimizer.state_dict(), "settings": settings, "step": step}
    torch.save(state, temporary)
    os.replace(temporary, path)


def _restore(
    path: Path,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: dict[str, float],
    device: torch.device,
) -> int:
    """Load a state, if there is one, and give the next step."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    if state["settings"] != settings:
        raise SystemExit(
            f"{path}: expected a state of {settings}, found one of {state['settings']}; give another --output"
        )
    trained.load_state_dict(state["trained"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"resumed   step {state['step']}")
    return int(state["step"])


def main() -> None:
    """Parse the command line and pretrain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/pretrain"), help="folder (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=7000, help="training steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images a step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    parser.add_argument("--save-every", type=int, default=100, help="steps between states (default: %(default)s)")
    print(f"weights   {pretrain(**vars(parser.parse_args()))}")


if __name__ == "__main__":
    main()
