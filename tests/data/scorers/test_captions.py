"""Captions by a scripted model, by a tiny random model of the real class, and from a local endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.scorer import create_scorer, score_clip
from avatar.data.scorers import caption_pictures, caption_prompts
from avatar.data.scorers.caption_models import EndpointModel, ModelError, TransformersModel
from avatar.data.scorers.captions import CaptionScorer
from avatar.errors import MissingDependencyError, OptionError
from avatar.types import BBox

FLAGS = dict.fromkeys(caption_prompts.QUESTIONS, "no")
VIDEO = json.dumps({"flags": FLAGS | {"watermark": "yes"}, "caption": "She talks and nods."})
AGREE = '{"consistent": true, "conflicts": []}'
DISAGREE = '{"consistent": false, "conflicts": ["red shirt against blue shirt"]}'
Call = tuple[str, list[np.ndarray], float, int]


class Scripted:
    """Answers by what the prompt begins with; an exception in the script is raised."""

    name = "scripted"

    def __init__(self, **answers: list[str | Exception]) -> None:
        self.answers = {"is a crop of": ["a face"], "everything but": ["a woman in red"], "Two desc": [AGREE],
                        "outlined in yellow; the outline was added, it": ["in a studio"], "evenly": [VIDEO]}  # fmt: skip
        kinds = dict(zip(("part", "object", "check", "scene", "video"), self.answers, strict=True))
        self.answers |= {kinds[kind]: script for kind, script in answers.items()}
        self.calls: list[Call] = []

    def setup(self) -> None:
        pass

    def ask(self, prompt: str, pictures: Sequence[np.ndarray], temperature: float, seed: int) -> str:
        self.calls.append((prompt, list(pictures), temperature, seed))
        script = next(script for words, script in self.answers.items() if words in prompt.replace("\n", " "))
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def prompts(self, words: str) -> list[Call]:
        return [call for call in self.calls if words in call[0].replace("\n", " ")]


class DrawnClip(ClipMedia):
    """Thirty frames of one colour each, a face that grows, at twice the size in the source."""

    def __init__(self, root: Path, has_face: bool = True) -> None:
        super().__init__({"clip_id": "cd34", "source_uri": "none.mp4", "start_s": 0.0, "end_s": 1.2}, root)
        frames = np.zeros((30, 120, 160, 3), np.uint8)
        frames[:] = np.arange(30, dtype=np.uint8)[:, None, None, None] * 4
        self._frames[640] = frames
        unit = np.random.default_rng(0).uniform(-1, 1, (478, 3)).astype(np.float32)
        sizes = np.concatenate([np.linspace(20, 40, 20), np.linspace(40, 30, 10)])
        landmarks = np.stack([unit * (size, size * 1.2, 0) + (160, 100, 0) for size in sizes]).astype(np.float32)
        self._tracks = [FaceTrack(np.arange(30, dtype=np.int32), landmarks)] if has_face else []

    @property
    def scale(self) -> float:
        return 0.5

    def full_frames(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [np.repeat(np.repeat(self._frames[640][i], 2, axis=0), 2, axis=1) for i in indices]


def captioned(model: Scripted, clip: DrawnClip, **options: Any) -> tuple[dict[str, Any], str | None]:
    scorer = CaptionScorer(model, wait_s=0.0, **options)
    scorer._person_mask = lambda picture: np.zeros(picture.shape[:2], np.float32)  # the body's box stands in
    return score_clip(scorer, clip)


def test_three_levels_are_asked_in_order_and_each_is_told_the_one_before(tmp_path: Path) -> None:
    model = Scripted()
    values, error = captioned(model, DrawnClip(tmp_path))
    assert error is None
    assert values["caption_parts"] == ["a face", "a face"]
    assert values["caption_object"] == "a woman in red"
    assert (values["caption_check"], values["caption_conflicts"]) == ("consistent", [])
    assert values["caption_scene"] == "in a studio"
    assert values["caption_video"] == "She talks and nods."
    assert dict(values["mllm_flags"]) == FLAGS | {"watermark": "yes"}
    assert (values["caption_model"], values["prompt_version"]) == ("scripted", caption_prompts.PROMPT_VERSION)
    assert len(model.calls) == 6  # two parts, object, check, scene, video with the filter questions
    assert "a woman in red" in model.calls[4][0] and "in a studio" in model.calls[5][0]
    assert model.calls[3][1] == []  # the judge sees words only


def test_the_pictures_are_the_largest_face_masked_outlined_and_eight_evenly_spaced(tmp_path: Path) -> None:
    model = Scripted()
    captioned(model, DrawnClip(tmp_path))
    [(_, [masked], _, _)] = model.prompts("everything but")
    colours = set(np.unique(masked))
    assert colours in ({19 * 4, 127}, {20 * 4, 127})  # the frame with the largest face, the rest grey
    [(_, eight, _, _)] = model.prompts("evenly")
    assert [int(frame[0, 0, 0]) // 4 for frame in eight] == [round(i) for i in np.linspace(0, 29, 8)]
    for frame, index in zip(eight, caption_pictures.even_indices(30), strict=True):
        changed = (frame != index * 4).any(axis=2)
        assert changed.any() and (frame[changed] == caption_pictures.YELLOW).all()


def test_the_outline_is_yellow_on_the_edge_and_nowhere_else() -> None:
    picture = np.full((300, 400, 3), 50, np.uint8)
    region = np.zeros((300, 400), bool)
    region[100:200, 150:250] = True
    drawn = caption_pictures.outlined(picture, region)
    yellow = (drawn == caption_pictures.YELLOW).all(axis=2)
    assert np.array_equal(yellow, (drawn != picture).any(axis=2))
    rows, columns = np.nonzero(yellow)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (99, 200, 149, 250)
    assert not yellow[102:198, 152:248].any()
    assert yellow[100, 150:250].all() and yellow[100:200, 249].all()


def test_a_person_is_the_part_of_the_mask_that_the_face_lies_in() -> None:
    mask = np.zeros((100, 200), np.float32)
    mask[20:90, 30:70] = 1  # this one
    mask[20:90, 75:110] = 1  # and a neighbour
    region = caption_pictures.person_region(np.zeros((100, 200, 3), np.uint8), mask, BBox(40, 30, 60, 50))
    assert region[40, 50] and not region[40, 90] and not region[10, 50]


def test_descriptions_that_contradict_each_other_are_asked_again_with_the_conflict_named(tmp_path: Path) -> None:
    model = Scripted(check=[DISAGREE, AGREE])
    values, _ = captioned(model, DrawnClip(tmp_path))
    assert values["caption_check"] == "consistent" and values["caption_video"]
    again = model.prompts("red shirt against blue shirt")
    assert len(again) == 3 and all(call[2] == 0.0 for call in again)


def test_a_contradiction_that_stays_discards_both_and_is_counted(tmp_path: Path) -> None:
    model = Scripted(check=[DISAGREE])
    values, error = captioned(model, DrawnClip(tmp_path))
    assert error is None
    assert values["caption_check"] == "conflict"
    assert values["caption_conflicts"] == ["red shirt against blue shirt"]
    assert "caption_object" not in values and "caption_video" not in values
    assert not model.prompts("evenly")  # nothing more is asked about a clip that is discarded


def test_an_answer_that_cannot_be_read_is_asked_for_again_at_another_seed(tmp_path: Path) -> None:
    model = Scripted(
        video=["I cannot say.", '{"flags": {"watermark": "perhaps"}, "caption": "x"}', f"Here:\n```json\n{VIDEO}\n```"]
    )
    values, error = captioned(model, DrawnClip(tmp_path))
    assert error is None and values["caption_video"] == "She talks and nods."
    assert [(call[2], call[3]) for call in model.prompts("evenly")] == [(0.2, 0), (0.0, 1), (0.0, 2)]


def test_a_failing_model_is_retried_and_then_named(tmp_path: Path) -> None:
    values, error = captioned(Scripted(scene=[ModelError("timed out"), "in a studio"]), DrawnClip(tmp_path))
    assert error is None and values["caption_scene"] == "in a studio"
    values, error = captioned(Scripted(scene=[ModelError("timed out")]), DrawnClip(tmp_path / "other"), retries=2)
    assert (values, error) == ({}, "timed out")


def test_a_stopped_run_asks_nothing_twice(tmp_path: Path) -> None:
    first = Scripted(scene=[ModelError("gone")])
    captioned(first, DrawnClip(tmp_path), retries=0)
    second = Scripted()
    values, error = captioned(second, DrawnClip(tmp_path), retries=0)
    assert error is None and values["caption_object"] == "a woman in red"
    assert len(first.calls) == 5 and len(second.calls) == 2  # scene and video are left
    third = Scripted()
    assert captioned(third, DrawnClip(tmp_path))[0] == values
    assert third.calls == []
    kept = json.loads((tmp_path / "captions/cd/cd34.json").read_text())
    assert kept["video"] | {"key": ""} == {
        "key": "", "model": "scripted", "prompt_version": "1", "temperature": 0.2, "seed": 0, "status": "read", "answer": VIDEO
    }  # fmt: skip


def test_without_a_face_only_the_video_is_described(tmp_path: Path) -> None:
    model = Scripted()
    values, _ = captioned(model, DrawnClip(tmp_path, has_face=False))
    assert (values["caption_check"], len(model.calls)) == ("unchecked", 1)
    assert "outlined" not in model.calls[0][0]
    assert values["caption_video"] and "caption_object" not in values


def test_another_judge_is_asked_to_compare(tmp_path: Path) -> None:
    model, judge = Scripted(), Scripted()
    captioned(model, DrawnClip(tmp_path), judge=judge)
    assert (len(model.calls), len(judge.calls)) == (5, 1)


@pytest.mark.parametrize(
    ("read", "answer", "words"),
    [
        (caption_prompts.read_text, " \n", "answered nothing"),
        (caption_prompts.read_verdict, "yes, they agree", "JSON was asked for"),
        (caption_prompts.read_verdict, '{"consistent": "maybe"}', "was asked for"),
        (caption_prompts.read_video, '{"caption": "x"}', "flags and caption"),
        (caption_prompts.read_video, '{"flags": {"watermark": "x"}, "caption": "x"}', "accepted: yes, no, unsure"),
    ],
)
def test_unreadable_answers_are_named(read: Callable[[str], Any], answer: str, words: str) -> None:
    with pytest.raises(caption_prompts.AnswerError, match=words):
        read(answer)


def test_a_question_left_out_is_unsure_and_booleans_are_words() -> None:
    _, flags = caption_prompts.read_video('{"flags": {"watermark": true, "still_photo": "No."}, "caption": "x"}')
    assert (flags["watermark"], flags["still_photo"], flags["heavy_filter"]) == ("yes", "no", "unsure")


# -- a local endpoint ---------------------------------------------------------------------------------------------------


class Endpoint:
    """An OpenAI-compatible server that keeps what it was asked."""

    def __init__(self, answers: list[tuple[int, str]]) -> None:
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.asked.append((body, self.headers.get("Authorization")))
                status, text = answers.pop(0) if len(answers) > 1 else answers[0]
                reply = json.dumps({"choices": [{"message": {"content": text}}]}) if status == 200 else text
                self.send_response(status)
                self.end_headers()
                self.wfile.write(reply.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def endpoint() -> Iterator[Callable[[list[tuple[int, str]]], Endpoint]]:
    made: list[Endpoint] = []

    def make(answers: list[tuple[int, str]]) -> Endpoint:
        made.append(Endpoint(answers))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def test_an_endpoint_is_sent_pictures_and_words(
    endpoint: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = endpoint([(200, "a woman")])
    monkeypatch.setenv("MY_KEY", "secret")
    model = EndpointModel(server.address, "some-model", api_key_env="MY_KEY")
    assert model.ask("Describe.", [np.zeros((900, 1600, 3), np.uint8)], 0.2, 7) == "a woman"
    [(body, authorization)] = server.asked
    picture, words = body["messages"][0]["content"]
    assert (body["model"], body["temperature"], body["seed"], authorization) == ("some-model", 0.2, 7, "Bearer secret")
    assert words == {"type": "text", "text": "Describe."}
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_an_endpoint_that_is_overloaded_is_asked_again(endpoint: Callable[..., Endpoint], tmp_path: Path) -> None:
    server = endpoint([(503, "busy"), (200, VIDEO)])
    scorer = create_scorer("captions", {"model": "m", "endpoint": server.address, "wait_s": 0.0})
    values, error = score_clip(scorer, DrawnClip(tmp_path, has_face=False))
    assert error is None and values["caption_video"] == "She talks and nods."
    assert len(server.asked) == 2


@pytest.mark.parametrize("answer", [(500, "out of memory"), (200, "no")])
def test_an_endpoint_that_fails_is_named(
    endpoint: Callable[..., Endpoint], answer: tuple[int, str], tmp_path: Path
) -> None:
    server = endpoint([answer])
    scorer = CaptionScorer("m", server.address, retries=1, wait_s=0.0)
    _, error = score_clip(scorer, DrawnClip(tmp_path, has_face=False))
    assert error is not None
    assert ("500" in error and "out of memory" in error) or "JSON was asked for" in error


def test_an_endpoint_that_says_nothing_is_asked_again_and_never_quoted_as_none(
    endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    server = endpoint([(200, None), (200, VIDEO)])
    scorer = CaptionScorer("m", server.address, wait_s=0.0)
    values, error = score_clip(scorer, DrawnClip(tmp_path, has_face=False))
    assert error is None and values["caption_video"] == "She talks and nods."
    with pytest.raises(ModelError, match="without text"):
        EndpointModel(endpoint([(200, None)]).address, "m").ask("Describe.", [], 0.0, 0)


def test_an_endpoint_that_is_not_there_and_one_that_is_no_address_are_named() -> None:
    with pytest.raises(ModelError, match="did not answer"):
        EndpointModel("http://127.0.0.1:9/v1", "m", timeout_s=2).ask("x", [], 0.0, 0)
    with pytest.raises(OptionError, match="http://localhost"):
        CaptionScorer("m", endpoint="localhost:8000")


# -- a tiny random model of the real class ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("llava")
    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *"a woman talks in red studio the".split()]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    side = {"height": 28, "width": 28}
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}"
        "{% endif %}{% endfor %}{% endfor %}"
    )
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size=side, crop_size=side), tokenizer=tokenizer, patch_size=14,
        vision_feature_select_strategy="default", chat_template=template, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, image_size=28, patch_size=14),
        text_config=LlamaConfig(**small, vocab_size=len(words), num_key_value_heads=2, max_position_embeddings=512),
        image_token_index=4,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_tiny_model_of_the_real_class_answers_about_pictures(llava: Path) -> None:
    model = TransformersModel(str(llava), max_new_tokens=5)
    model.setup()
    frames = [np.full((60, 80, 3), level, np.uint8) for level in (20, 200)]
    answer = model.ask("the woman", frames, 0.0, 0)
    assert isinstance(answer, str) and answer == model.ask("the woman", frames, 0.0, 0)
    assert model.ask("the woman", frames, 1.5, 3) == model.ask("the woman", frames, 1.5, 3)
    assert isinstance(model.ask("the woman", [], 0.0, 0), str)


def test_a_model_that_babbles_is_an_error_of_the_clip_and_not_of_the_run(llava: Path, tmp_path: Path) -> None:
    scorer = create_scorer("captions", {"model": str(llava), "max_new_tokens": 4, "retries": 1, "wait_s": 0.0})
    scorer.setup()
    values, error = score_clip(scorer, DrawnClip(tmp_path, has_face=False))
    assert values == {} and error is not None and "JSON was asked for" in error


def test_a_model_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="hf download"):
        TransformersModel(str(tmp_path / "absent")).setup()
