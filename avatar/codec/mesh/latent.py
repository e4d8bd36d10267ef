"""Motion of the face mesh to the latent video [16, F, 4, 4] the transformer works on, and back: linear, per region.

A latent frame covers four video frames, the first one alone covers one (Wan's rule). Its 4 x 4 cells of 16 numbers:

    brow  brow  | eyes  eyes          Coefficients stand in order of falling variance, sixteen to a cell;
    pose  pose  | eyes  eyes          a quadrant is one token of the transformer. The mouth's first 64 numbers fill
    ------------+------------         the lower right quadrant, its last 32 the two cells beside it. Pose and gaze
    mid   mid   | mouth mouth         are kept exactly.
    mouth mouth | mouth mouth
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from avatar.codec.mesh.bases import GROUP_FRAMES, REGION_NUMBERS, RegionBasis, cosine_transform
from avatar.codec.mesh.borders import BorderSmoother
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import Rig
from avatar.errors import OptionError
from avatar.face_mesh import NUM_POINTS

BASES_FILE = Path(__file__).parent / "data" / "bases.safetensors"
LATENT_CHANNELS = 16
LATENT_GRID = (4, 4)
NUM_POSE = 8  # rotation 3, translation 3, gaze 2
_NUMBERS = LATENT_CHANNELS * LATENT_GRID[0] * LATENT_GRID[1]

REGION_CELLS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "brow": ((0, 0), (0, 1)),
    "pose": ((1, 0), (1, 1)),
    "eyes": ((0, 2), (0, 3), (1, 2), (1, 3)),
    "mid": ((2, 0), (2, 1)),
    "mouth": ((2, 2), (2, 3), (3, 2), (3, 3), (3, 0), (3, 1)),
}
"""Cells (row, column) of each region, in the order they are filled."""

# Typical spread while talking of rotation (rad), translation (units, log scale) and gaze (units), and how much of it is
# left at each cosine frequency of a group (frequency 0 sums four frames).
_POSE_SPREAD = np.array([0.06, 0.06, 0.05, 0.60, 0.50, 0.02, 0.15, 0.08])
_POSE_FREQUENCY_SPREAD = np.array([2.0, 0.40, 0.20, 0.12])


def save_bases(bases: Mapping[str, RegionBasis], path: Path) -> None:
    """Writes the bases; the file is small (about a third of a megabyte)."""
    arrays: dict[str, np.ndarray] = {}
    for name, basis in bases.items():
        arrays[f"{name}.points"] = basis.points.astype(np.int64)
        arrays[f"{name}.modes"] = basis.modes
        arrays[f"{name}.duals"] = basis.duals
        arrays[f"{name}.pairs"] = basis.pairs.astype(np.int64)
        arrays[f"{name}.scale"] = basis.scale
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, path)
    path.chmod(0o644)


def load_bases(path: Path = BASES_FILE) -> dict[str, RegionBasis]:
    """The bases that ship with the package."""
    arrays = load_file(path)
    return {
        name: RegionBasis(*(arrays[f"{name}.{part}"] for part in ("points", "modes", "duals", "pairs", "scale")))
        for name in REGION_NUMBERS
    }


class GeometryLatent(nn.Module):
    """The linear code. Its buffers travel with `state_dict` and `save_pretrained` of the codec that holds it.

    Args:
        bases: per region; None takes the bases that ship with the package.
        smooth_borders: soften small steps between generated groups of frames, see `borders.BorderSmoother`.
    """

    cosine: torch.Tensor
    pose_scale: torch.Tensor
    cell_rows: torch.Tensor
    cell_columns: torch.Tensor

    def __init__(self, bases: Mapping[str, RegionBasis] | None = None, smooth_borders: bool = True) -> None:
        super().__init__()
        self.smooth_borders = smooth_borders
        self.register_buffer("cosine", torch.from_numpy(cosine_transform()).float())
        for name, basis in (load_bases() if bases is None else bases).items():
            self.register_buffer(f"{name}_points", torch.as_tensor(basis.points))
            self.register_buffer(f"{name}_modes", torch.as_tensor(basis.modes).flatten(1))
            self.register_buffer(f"{name}_duals", torch.as_tensor(basis.duals).flatten(1))
            self.register_buffer(f"{name}_pairs", torch.as_tensor(basis.pairs))
            self.register_buffer(f"{name}_scale", torch.as_tensor(basis.scale))
        pose_scale = np.outer(_POSE_FREQUENCY_SPREAD, _POSE_SPREAD)
        self.register_buffer("pose_scale", torch.from_numpy(pose_scale).float())
        rows, columns = zip(*(cell for name in REGION_CELLS for cell in REGION_CELLS[name]), strict=True)
        self.register_buffer("cell_rows", torch.tensor(rows), persistent=False)
        self.register_buffer("cell_columns", torch.tensor(columns), persistent=False)

    # numbers <-> cells

    def _to_cells(self, numbers: torch.Tensor) -> torch.Tensor:
        """(F, 256) in the order of REGION_CELLS to [16, F, 4, 4]."""
        cells = numbers.new_zeros(LATENT_CHANNELS, len(numbers), *LATENT_GRID)
        cells[:, :, self.cell_rows, self.cell_columns] = numbers.unflatten(1, (-1, LATENT_CHANNELS)).permute(2, 0, 1)
        return cells

    def _from_cells(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :, self.cell_rows, self.cell_columns].permute(1, 2, 0).flatten(1)

    # encoding

    def encode(self, motion: MeshMotion) -> torch.Tensor:
        """Motion of T frames to latents [16, F, 4, 4] float32, F = 1 + ceil((T - 1) / 4).

        The first frame is coded as four equal ones; a last group that is not full holds its last frame.
        """
        device = self.cosine.device
        groups = self._groups(torch.as_tensor(motion.expression, device=device).flatten(1))
        groups = groups.unflatten(2, (NUM_POINTS, 3))
        numbers = []
        for name in REGION_CELLS:
            if name == "pose":
                numbers.append(self._encode_pose(motion.rotation, motion.translation, motion.gaze))
                continue
            displacement = groups[:, :, getattr(self, f"{name}_points")].flatten(2)
            numbers.append(self._select(name, displacement @ getattr(self, f"{name}_duals").T))
        return self._to_cells(torch.cat(numbers, dim=1))

    def rig_matrix(self, rig: Rig) -> dict[str, torch.Tensor]:
        """Per region the matrix (P, modes) from rig weights to mode coefficients."""
        shapes = torch.as_tensor(rig.shapes.copy(), device=self.cosine.device)
        return {
            name: shapes[:, getattr(self, f"{name}_points")].flatten(1) @ getattr(self, f"{name}_duals").T
            for name in REGION_NUMBERS
        }

    def encode_rig(
        self,
        weights: np.ndarray,
        rotation: np.ndarray,
        translation: np.ndarray,
        gaze: np.ndarray,
        matrix: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """What `encode` gives for the rig's displacement, without ever making the mesh.

        Args:
            weights: (T, P) rig weights.
            rotation: (T, 3) radians.
            translation: (T, 3) canonical units, canonical units, log scale.
            gaze: (T, 2) canonical units.
            matrix: from `rig_matrix`.

        Returns:
            [16, F, 4, 4] float32.
        """
        groups = self._groups(torch.as_tensor(np.asarray(weights, np.float32), device=self.cosine.device))
        numbers = [
            self._encode_pose(rotation, translation, gaze)
            if name == "pose"
            else self._select(name, groups @ matrix[name])
            for name in REGION_CELLS
        ]
        return self._to_cells(torch.cat(numbers, dim=1))

    def _groups(self, series: torch.Tensor) -> torch.Tensor:
        """(T, D) to (F, 4, D): the first frame four times, then groups of four."""
        if len(series) == 0:
            raise OptionError("a motion of no frames has no latents")
        missing = -(len(series) - 1) % GROUP_FRAMES
        parts = [series[:1].expand(GROUP_FRAMES, -1), series[1:], series[-1:].expand(missing, -1)]
        return torch.cat(parts).unflatten(0, (-1, GROUP_FRAMES))

    def _select(self, name: str, coefficients: torch.Tensor) -> torch.Tensor:
        """(F, 4, modes) over frames to the region's kept and scaled numbers (F, K)."""
        pairs = getattr(self, f"{name}_pairs")
        spectrum = torch.einsum("kt,ftm->fmk", self.cosine, coefficients)
        return spectrum[:, pairs[:, 0], pairs[:, 1]] / getattr(self, f"{name}_scale")

    def _encode_pose(self, rotation: np.ndarray, translation: np.ndarray, gaze: np.ndarray) -> torch.Tensor:
        series = np.concatenate([rotation, translation, gaze], axis=1).astype(np.float32)
        groups = self._groups(torch.as_tensor(series, device=self.cosine.device))
        return (torch.einsum("kt,ftd->fkd", self.cosine, groups) / self.pose_scale).flatten(1)

    # decoding

    def decode(self, latents: torch.Tensor) -> MeshMotion:
        """Latents [16, F, 4, 4] of a whole video to its motion, 1 + 4 (F - 1) frames."""
        return MeshMotion.concatenate(list(self.decode_blocks([latents])))

    def decode_blocks(self, blocks: Iterable[torch.Tensor]) -> Iterator[MeshMotion]:
        """Consecutive blocks of latents [16, f, 4, 4] to blocks of motion.

        The first latent frame of the first block is one video frame, every other is four. Nothing is held back, and
        how the latents are cut into blocks does not change the motion.
        """
        smoother = BorderSmoother() if self.smooth_borders else None
        is_first = True
        for block in blocks:
            if block.shape[1] == 0:
                continue
            with torch.no_grad():
                expression, pose = self.decode_groups(block)
            if smoother is not None:
                expression, pose = smoother(expression, pose)
            series = expression.reshape(-1, NUM_POINTS, 3), pose.reshape(-1, NUM_POSE)
            if is_first:  # four equal frames
                series = series[0][GROUP_FRAMES - 1 :], series[1][GROUP_FRAMES - 1 :]
                is_first = False
            yield MeshMotion(series[0], series[1][:, :3], series[1][:, 3:6], series[1][:, 6:])

    def decode_groups(self, latents: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """[16, f, 4, 4] to expression (f, 4, 478, 3) and pose (f, 4, 8)."""
        numbers = self._from_cells(latents.to(self.cosine))
        num_groups = len(numbers)
        expression = numbers.new_zeros(num_groups, GROUP_FRAMES, NUM_POINTS, 3)
        pose = numbers.new_zeros(num_groups, GROUP_FRAMES, NUM_POSE)
        start = 0
        for name, cells in REGION_CELLS.items():
            part = numbers[:, start : start + LATENT_CHANNELS * len(cells)]
            start += part.shape[1]
            if name == "pose":
                spectrum = part.unflatten(1, (GROUP_FRAMES, NUM_POSE)) * self.pose_scale
                pose = torch.einsum("kt,fkd->ftd", self.cosine, spectrum)
                continue
            points, modes = getattr(self, f"{name}_points"), getattr(self, f"{name}_modes")
            pairs, scale = getattr(self, f"{name}_pairs"), getattr(self, f"{name}_scale")
            spectrum = part.new_zeros(num_groups, len(modes), GROUP_FRAMES)
            spectrum[:, pairs[:, 0], pairs[:, 1]] = part * scale
            courses = torch.einsum("kt,fmk->ftm", self.cosine, spectrum)
            expression[:, :, points] = (courses @ modes).unflatten(2, (len(points), 3))
        return expression.cpu().numpy(), pose.cpu().numpy()
