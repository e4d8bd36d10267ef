"""Vision-language models that answer a question about pictures: any of transformers', or an OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from avatar.errors import AvatarError, MissingDependencyError, OptionError

MAX_SIDE_PX = 768  # of a picture that is sent; larger ones are reduced
_JPEG_QUALITY = 90


class ModelError(AvatarError):
    """A model could not answer: the endpoint is gone, too slow, or refuses. Asking again may help."""


class VisionModel(Protocol):
    """Answers a question about pictures.

    Attributes:
        name: which model it is, for the manifest.
    """

    name: str

    def setup(self) -> None:
        """Loads it, once per worker."""
        ...

    def ask(self, prompt: str, pictures: Sequence[np.ndarray], temperature: float, seed: int) -> str:
        """The answer to a prompt about pictures (H, W, 3) uint8 RGB, in their order; none is fine. Raises ModelError."""
        ...


class TransformersModel:
    """Any image-text-to-text model of transformers.

    Args:
        name: hub id or folder, e.g. Qwen/Qwen3-VL-8B-Instruct.
        device: torch's name.
        max_new_tokens: length of an answer.
    """

    def __init__(self, name: str, device: str = "cpu", max_new_tokens: int = 400) -> None:
        self.name, self.device, self.max_new_tokens = name, device, max_new_tokens

    def setup(self) -> None:
        """Loads model and processor.

        Raises:
            MissingDependencyError: they are neither on disk nor at the hub, or need a package that is absent.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            self._processor = AutoProcessor.from_pretrained(self.name)
            self._model = AutoModelForImageTextToText.from_pretrained(self.name, dtype="auto").eval().to(self.device)
        except (OSError, ValueError, ImportError) as err:
            raise MissingDependencyError(
                f"the caption model {self.name!r} cannot be loaded ({err}); give the folder of an image-text-to-text model, or "
                f"fetch it: hf download {self.name}"
            ) from err

    def ask(self, prompt: str, pictures: Sequence[np.ndarray], temperature: float, seed: int) -> str:
        """As `VisionModel.ask`."""
        import torch

        content: list[dict[str, Any]] = [{"type": "image", "image": _reduced(picture)} for picture in pictures]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
        inputs = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self.device)
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            out = self._model.generate(**inputs, max_new_tokens=self.max_new_tokens, **sampling)
        return str(self._processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


class EndpointModel:
    """An OpenAI-compatible server: vLLM, llama.cpp, a hosted one. Pictures leave this machine for it.

    Args:
        endpoint: its address up to the version, e.g. http://localhost:8000/v1.
        name: the model it is asked for.
        api_key_env: environment variable with the key; none is sent where it is not set.
        timeout_s: for one answer.
        max_new_tokens: length of an answer.
    """

    def __init__(
        self,
        endpoint: str,
        name: str,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 120.0,
        max_new_tokens: int = 400,
    ) -> None:
        if not endpoint.startswith(("http://", "https://")):
            raise OptionError(f"the endpoint is {endpoint!r}; it is an address such as http://localhost:8000/v1")
        self.endpoint, self.name = endpoint.rstrip("/"), name
        self.api_key_env, self.timeout_s, self.max_new_tokens = api_key_env, timeout_s, max_new_tokens

    def setup(self) -> None:
        """Nothing to load."""

    def ask(self, prompt: str, pictures: Sequence[np.ndarray], temperature: float, seed: int) -> str:
        """As `VisionModel.ask`."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(one)}} for one in pictures
        ]
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}],
            "temperature": temperature,
            "seed": seed,
            "max_tokens": self.max_new_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if os.environ.get(self.api_key_env):
            headers["Authorization"] = f"Bearer {os.environ[self.api_key_env]}"
        request = urllib.request.Request(f"{self.endpoint}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
                said = json.loads(reply.read())["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as err:
            words = err.read(300).decode("utf-8", "replace")
            raise ModelError(f"{self.endpoint} answered {err.code} {err.reason}: {words}") from err
        except (OSError, ValueError, KeyError, IndexError, TypeError) as err:
            raise ModelError(f"{self.endpoint} did not answer a chat completion ({type(err).__name__}: {err})") from err
        if not isinstance(said, str):  # null where a model only reasoned, or refused
            raise ModelError(f"{self.endpoint} answered without text ({said!r}); give {self.name} more max_new_tokens")
        return said


def _reduced(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    return image


def _data_url(picture: np.ndarray) -> str:
    held = io.BytesIO()
    _reduced(picture).save(held, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"
