"""Each corpus's reader on a tiny tree that looks like the corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from avatar.data.manifest import SourceRecord
from avatar.data.readers import load_recipe, read_corpus, recipe_names
from avatar.data.readers.layout import age_group, emotion_word
from avatar.emotion.labels import EMOTIONS
from avatar.errors import AvatarError, MediaError, OptionError
from avatar.types import BBox

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A folder with empty files, and files with text."""

    def make(*paths: str, **texts: str) -> Path:
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return tmp_path

    return make


def text(root: Path, name: str, content: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content, encoding="utf-8")


def video(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def records(recipe: str, root: Path) -> dict[str, SourceRecord]:
    return {record.source_id: record for record in read_corpus(recipe, root)}


def test_crema_d(tree: Tree) -> None:
    root = tree("VideoFlash/1001_DFA_ANG_XX.flv", "VideoFlash/1047_IEO_HAP_HI.flv", "VideoFlash/notes.flv")
    text(root, "VideoDemographics.csv", '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
         '1047,22,"Female","Unknown","Hispanic"\n')  # fmt: skip
    found = records("crema-d", root)
    assert set(found) == {"1001_DFA_ANG_XX", "1047_IEO_HAP_HI"}
    assert found["1001_DFA_ANG_XX"].declared == {
        "identity": "crema-d/1001", "language": "en", "style": "acted", "transcript": "Don't forget a jacket.",
        "emotion": "angry", "sex": "male", "age_group": "46-60", "ethnicity": "caucasian",
    }  # fmt: skip
    other = found["1047_IEO_HAP_HI"].declared
    assert (other["emotion_intensity"], other["ethnicity"], other["age_group"]) == ("high", "hispanic", "19-30")
    assert "Open Database" in str(found["1001_DFA_ANG_XX"].license)


def test_crema_d_without_its_table_declares_nobodys_age(tree: Tree) -> None:
    [record] = records("crema-d", tree("1001_DFA_ANG_XX.mp4")).values()
    assert "age_group" not in record.declared and record.declared["emotion"] == "angry"


def test_ravdess(tree: Tree) -> None:
    root = tree(
        "Actor_12/01-01-06-01-02-01-12.mp4", "Actor_12/02-01-06-01-02-01-12.mp4", "Actor_01/01-02-02-02-01-01-01.mp4"
    )
    found = records("ravdess", root)
    assert set(found) == {"01-01-06-01-02-01-12", "01-02-02-02-01-01-01"}
    assert found["01-01-06-01-02-01-12"].declared == {
        "identity": "ravdess/12", "language": "en", "transcript": "Dogs are sitting by the door.", "emotion": "fearful",
        "emotion_intensity": "normal", "sex": "female", "style": "speech",
    }  # fmt: skip
    song = found["01-02-02-02-01-01-01"].declared
    assert (song["style"], song["emotion"], song["sex"]) == ("song", "calm", "male")


def test_grid(tree: Tree) -> None:
    root = tree("s1/video/mpg_6000/bbaf2n.mpg", "s13/lwbsza.mpg", "other/x.mpg")
    text(root, "s1/align/bbaf2n.align", "0 23750 sil\n23750 29500 bin\n29500 34000 blue\n34000 35500 at\n35500 41000 f\n"
         "41000 47250 two\n47250 53000 now\n53000 74500 sil\n")  # fmt: skip
    found = records("grid", root)
    assert set(found) == {"s1/bbaf2n", "s13/lwbsza"}
    assert found["s1/bbaf2n"].declared == {
        "identity": "grid/s1",
        "language": "en",
        "transcript": "bin blue at f two now",
    }
    assert "transcript" not in found["s13/lwbsza"].declared


def test_mead(tree: Tree) -> None:
    root = tree(
        "M003/video/front/angry/level_1/001.mp4",
        "W009/video/left_30/fear/level_3/030.mp4",
        "M003/audio/angry/level_1/001.m4a",
    )
    found = records("mead", root)
    assert found["M003/front/angry/level_1/001"].declared == {
        "identity": "mead/M003", "language": "en", "emotion": "angry", "emotion_intensity": "level 1", "sex": "male",
        "style": "view:front",
    }  # fmt: skip
    other = found["W009/left_30/fear/level_3/030"].declared
    assert (other["emotion"], other["sex"], other["style"]) == ("fearful", "female", "view:left_30")


def test_voxceleb2(tree: Tree) -> None:
    root = tree("dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "test/mp4/id00017/utrA-v8pPm4/00003.mp4")
    text(root, "vox2_meta.csv", "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \n")
    found = records("voxceleb2", root)
    assert found["id00012/21Uxsk56VDQ/00001"].declared == {"identity": "voxceleb2/id00012", "sex": "male"}
    assert found["id00017/utrA-v8pPm4/00003"].declared == {"identity": "voxceleb2/id00017"}


def test_talkvid(tree: Tree) -> None:
    root = tree("clips/videovideoTr6MMsoWAog-scene1-scene1.mp4", "clips/unlisted.mp4")
    info = {"Person ID": "597", "Ethnicity": "White", "Age Group": "60+", "Gender": "Male", "Language": "English"}
    listed = [{"id": "videovideoTr6MMsoWAog-scene1-scene1", "info": info}, {"id": "not-on-disk", "info": info}]
    text(root, "filtered_video_clips.json", json.dumps(listed))
    [record] = records("talkvid", root).values()
    assert record.declared == {
        "identity": "talkvid/597", "language": "en", "sex": "male", "age_group": "61+", "ethnicity": "white"
    }  # fmt: skip


def test_hdtf_by_windows_and_crops_of_whole_videos(tree: Tree) -> None:
    root = tree()
    text(
        root,
        "HDTF_dataset/WRA_annotion_time.txt",
        "AdamKinzinger2.mp4 00:20-01:35 02:00-02:30\nAbsent.mp4 00:00-00:10\n",
    )
    text(root, "HDTF_dataset/WRA_crop_wh.txt", "AdamKinzinger2_0.mp4 40 96 0 96\nAdamKinzinger2_1.mp4 400 500 0 500\n")
    video(root / "videos/AdamKinzinger2.mp4", 160, 96)
    found = records("hdtf", root)
    assert set(found) == {"AdamKinzinger2_0", "AdamKinzinger2_1"}
    first, second = found["AdamKinzinger2_0"], found["AdamKinzinger2_1"]
    assert (first.start_s, first.end_s, first.crop) == (20.0, 95.0, BBox(40, 0, 136, 96))
    assert (second.start_s, second.crop) == (120.0, None)  # a crop for a larger picture is left out
    assert first.declared == {"identity": "hdtf/AdamKinzinger", "language": "en"}


def test_hdtf_as_clips(tree: Tree) -> None:
    root = tree("clips/Radio11_1.mp4")
    text(root, "RD_annotion_time.txt", "Radio11.mp4 00:30-01:00 01:30-02:30\n")
    [record] = records("hdtf", root).values()
    assert (record.source_id, record.start_s, record.declared["identity"]) == ("Radio11_1", None, "hdtf/Radio")


def test_lists_that_are_not_a_corpus_s_own_are_named(tree: Tree) -> None:
    root = tree("videos/Radio11.mp4")
    for window in ("00:30", "from start"):
        text(root, "RD_annotion_time.txt", f"Radio11.mp4 {window}\n")
        with pytest.raises(MediaError, match="the lists or names of HDTF in .* are not as its reader knows them"):
            records("hdtf", root)


def test_celebv_hq(tree: Tree) -> None:
    root = tree("processed/_0tf2n3rlJU_0.mp4")
    video(root / "raw/M2Ohb0FAaJU.mp4", 200, 100)
    one = {"ytb_id": "M2Ohb0FAaJU", "duration": {"start_sec": 81.62, "end_sec": 86.17},
           "bbox": {"top": 0.22, "bottom": 0.78, "left": 0.27, "right": 0.53},
           "attributes": {"appearance": [0, 1], "emotion": {"sep_flag": False, "labels": "happy"}}}  # fmt: skip
    two = {"ytb_id": "_0tf2n3rlJU", "duration": {"start_sec": 1, "end_sec": 2}, "bbox": one["bbox"],
           "attributes": {"appearance": [1, 0], "emotion": {"sep_flag": True, "labels": [{"emotion": "sad"}]}}}  # fmt: skip
    clips = {"M2Ohb0FAaJU_1": one, "_0tf2n3rlJU_0": two, "absent_0": one | {"ytb_id": "absent"}}
    info = {"meta_info": {"appearance_mapping": ["Blurry", "Male"]}, "clips": clips}
    text(root, "celebvhq_info.json", json.dumps(info))
    found = records("celebv-hq", root)
    assert set(found) == {"M2Ohb0FAaJU_1", "_0tf2n3rlJU_0"}
    cut = found["M2Ohb0FAaJU_1"]
    assert (cut.start_s, cut.end_s, cut.crop) == (81.62, 86.17, BBox(50, 20, 110, 80))
    assert cut.declared == {"sex": "male", "emotion": "happy"}
    assert found["_0tf2n3rlJU_0"].declared == {"sex": "female"}
    assert found["_0tf2n3rlJU_0"].start_s is None


def test_koala_36m(tree: Tree) -> None:
    root = tree("videos/xED6jYx_Gg-.mp4", "clips/cC-Q5kcc3R8_27.mp4")
    text(root, "Koala_36M_1.csv", "videoID,url,timestamp,caption,clarity_score,aesthetic_score,motion_score,VTSS\n"
         "xED6jYx_Gg-_26,https://…,\"['0:00:01.100', '0:01:04.200']\",\"A diver, below\",0.9,5.3,22.0,4.4\n"
         "cC-Q5kcc3R8_27,https://…,\"['0:00:00.000', '0:00:05.000']\",Two men,0.9,5.1,0.6,4.8\n"
         "absent_____0_1,https://…,\"['0:00:00.000', '0:00:05.000']\",Nobody,0.9,5.1,0.6,4.8\n")  # fmt: skip
    found = records("koala-36m", root)
    assert set(found) == {"xED6jYx_Gg-_26", "cC-Q5kcc3R8_27"}
    assert (found["xED6jYx_Gg-_26"].start_s, found["xED6jYx_Gg-_26"].end_s) == (1.1, 64.2)
    assert found["cC-Q5kcc3R8_27"].start_s is None


def test_a_folder_of_mine_with_labels(tree: Tree) -> None:
    root = tree("a b/Zoë.mp4", "c.MOV", "notes.txt", ".hidden/d.mp4")
    text(root, "labels.csv", "path,identity,emotion,license,valence,start_s,end_s\na b/Zoë.mp4,zoë,happy,mine,0.5,,\n"
         "c.MOV,carl,,,,0,5\nc.MOV,carl,sad,,,5,9.5\n")  # fmt: skip
    found = records("folder", root)
    assert set(found) == {"a b/Zoë.mp4", "c.MOV#0-5", "c.MOV#5-9.5"}
    assert found["a b/Zoë.mp4"].declared == {"identity": "zoë", "emotion": "happy", "valence": 0.5}
    assert found["a b/Zoë.mp4"].license == "mine"
    assert (found["c.MOV#5-9.5"].start_s, found["c.MOV#5-9.5"].end_s) == (5.0, 9.5)


def test_a_folder_of_mine_without_labels_takes_every_video(tree: Tree) -> None:
    assert set(records("folder", tree("x/a.mp4", "b.webm"))) == {"x/a.mp4", "b.webm"}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("path,colour\na.mp4,red\n", "colour"),
        ("file\na.mp4\n", "needs a column path"),
        ("path,emotion\nb.mp4,sad\n", "names 'b.mp4'"),
        ("path,valence\na.mp4,high\n", "valence is 'high'"),
    ],
)
def test_labels_that_cannot_be_used_are_named(tree: Tree, labels: str, words: str) -> None:
    root = tree("a.mp4")
    text(root, "labels.csv", labels)
    with pytest.raises(AvatarError, match=words):
        records("folder", root)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_read_has_a_card_and_says_what_is_missing(name: str, tree: Tree) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.license and recipe.consent and recipe.layout
    card = Path(__file__).resolve().parents[3] / "datasets" / name / "README.md"
    assert "## Labels" in card.read_text(encoding="utf-8") and recipe.license in card.read_text(encoding="utf-8")
    with pytest.raises(MediaError, match="should lie like this|put it beside|put the one"):
        list(read_corpus(name, tree("nothing.txt")))


def test_all_ten_corpora_have_a_recipe() -> None:
    expected = "celebv-hq crema-d folder grid hdtf koala-36m mead ravdess talkvid voxceleb2"
    assert recipe_names() == expected.split()


def test_a_recipe_of_ones_own_is_a_file(tree: Tree) -> None:
    root = tree("a.mp4")
    own = load_recipe("folder")
    text(root, "mine.toml", f'''
        name = "mine"
        title = "Mine"
        reader = "folder"
        homepage = ""
        license = "CC0"
        is_noncommercial = false
        consent = "given"
        layout = "{own.layout.splitlines()[0]}"
        [declared]
        language = "cy"
    ''')  # fmt: skip
    [record] = read_corpus(root / "mine.toml", root)
    assert (record.license, record.declared) == ("CC0", {"language": "cy"})


def test_recipes_that_do_not_exist_or_cannot_be_read_are_named(tree: Tree) -> None:
    with pytest.raises(OptionError, match="no recipe is called 'cramed'; accepted: celebv-hq"):
        load_recipe("cramed")
    text(tree(), "bad.toml", 'name = "bad"\ncolour = "red"\n')
    with pytest.raises(OptionError, match="colour"):
        load_recipe(tree() / "bad.toml")


def test_emotions_of_corpora_become_ours_and_ages_groups() -> None:
    assert {emotion_word(word) for word in "NEU HAP SAD ANG surprise fear disgust contempt".split()} == set(EMOTIONS)
    assert emotion_word("bored") is None
    assert [age_group(years) for years in (3, 18, 19, 45, 60, 61)] == ["0-18", "0-18", "19-30", "31-45", "46-60", "61+"]
