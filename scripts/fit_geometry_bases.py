"""Makes avatar/codec/mesh/data/bases.safetensors, the code of the geometry latent, from motion of the rig alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from avatar.codec.mesh.bases import fit_bases
from avatar.codec.mesh.latent import BASES_FILE, save_bases
from avatar.codec.mesh.rig import default_rig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=BASES_FILE)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    save_bases(fit_bases(default_rig()), arguments.output)


if __name__ == "__main__":
    main()
