import json

import numpy as np
import pytest

from msi2he_jax.metrics import paper, results
from msi2he_jax.metrics.evaluation import score_images

IDS, GROUPS = ("s1", "s2", "s3"), ("p1", "p1", "p2")


@pytest.fixture(scope="module")
def block():
    random = np.random.default_rng(0)
    real = random.random((3, 16, 16, 3), dtype=np.float32)
    masks = np.ones((3, 16, 16), bool), np.ones((3, 16, 16), bool)
    scores = score_images(real, real, *masks)
    empty = score_images(np.ones_like(real), real, *masks)
    extra = {
        "fake_to_training_rms": np.array([0.1, 0.2, 0.3]),
        "nearest_training_sample": np.array(list("xyz")),
    }
    return results.split_block(
        scores,
        {"empty_slide": empty},
        IDS,
        GROUPS,
        extra=extra,
        alternatives={"norm_at_test=batch": empty},
        data_sha256="of the data",
    )


def _document(block, paper_row="pix2pix, white padding", **provenance):
    return results.document(
        {"test": block},
        run="mine",
        model="pix2pix",
        padding="white",
        paper_row=paper_row,
        recipe="the paper's recipe",
        checkpoint={"which": "best", "step": 7},
        norm_at_test="running",
        dropout_at_test=False,
        provenance=provenance,
    )


def test_block_holds_what_the_design_says(block):
    assert block["paper"]["ssim"]["mean"] == pytest.approx(1.0)
    assert set(block["null"]["empty_slide"]) >= {"ssim", "ssim_masked", "mi_corrected_nats"}
    assert [row["sample_id"] for row in block["per_sample"]] == list(IDS)
    assert block["per_sample"][2]["nearest_training_sample"] == "z"
    assert block["memorisation"].keys() == {"fake_to_training_rms"}
    assert (block["samples"], block["groups"]) == (3, 2)
    assert block["paper"]["psnr_db"]["mean"] is None  # equal images: infinite, JSON has no word
    json.dumps(block, allow_nan=False)


def test_words_say_how_much_is_background(block):
    empty = block["null"]["empty_slide"]["ssim"]["mean"]
    assert f"{empty:.3f}" in block["words"] and "100%" in block["words"]


PAPER_ROWS = [row["prediction"] for row in paper.PAPER_TABLE]


@pytest.mark.parametrize("place", [None, *PAPER_ROWS])
def test_a_run_stands_in_its_own_row_of_the_papers_table_or_in_none(block, place):
    rows = paper.paper_table(_document(block, paper_row=place))
    assert [row["kind"] for row in rows[:3]] == ["model", "alternative", "null"]
    own, others = rows[0], [row for row in rows if row["kind"] == "paper"]
    assert own["prediction"].startswith("mine (pix2pix, white padding)")
    assert own["scores"]["ssim"]["mean"] == pytest.approx(1.0)
    assert [row["prediction"] for row in others] == [
        f"paper's {name}" for name in PAPER_ROWS if name != place
    ]
    assert not any(row["scores"] for row in others)
    numbers = {row["prediction"]: (row["mi"], row["ssim"]) for row in paper.PAPER_TABLE}
    assert (own["paper_mi"], own["paper_ssim"]) == numbers.get(place, (None, None))
    assert {row["paper_mi"] for row in rows} - {None} == {0.429, 1.349, 1.353}


def test_the_papers_rows_are_told_apart():
    assert [paper.row_of(*case) for case in (("U-Net", "black"), ("U-Net", "white"))] == [
        "U-Net",
        "U-Net",
    ]
    assert [paper.row_of("pix2pix", color) for color in ("black", "white")] == PAPER_ROWS[1:]


def test_the_table_as_text_has_no_bounds_where_there_is_one_group(block):
    alone = {"mean": 0.169, "low": None, "high": None}
    lone = dict(block, paper=dict(block["paper"], ssim=alone))
    lines = paper.table_text(paper.paper_table(_document(lone))).splitlines()
    assert len(lines) == 1 + 5 and "1.353" in lines[1] and "1.349" not in lines[1]
    assert " 0.169  " in lines[1] and "[0.169" not in lines[1]
    assert max(map(len, lines)) < 150


def test_the_digest_is_of_what_scores_are_measured_against():
    histology, mask = np.zeros((2, 4, 4, 3), np.uint8), np.ones((2, 4, 4), bool)
    digest = results.data_digest("ab", histology, mask)
    assert digest == results.data_digest("ab", histology.copy(), mask.copy())
    black = [histology + 1, mask], [histology, ~mask], [histology.reshape(2, 2, 8, 3), mask]
    assert len({digest, results.data_digest("ac", histology, mask)}) == 2
    assert digest not in {results.data_digest("ab", *each) for each in black}


@pytest.mark.parametrize(
    ("provenance", "comparable", "word"),
    [
        ({"simulated": True}, False, "simulated"),
        ({"simulated": True, "paper_data": True}, False, "simulated"),
        ({"simulated": False}, False, "other data"),
        ({"simulated": False, "paper_data": True}, True, "the paper's data"),
    ],
)
def test_comparable_only_on_the_papers_data(block, provenance, comparable, word):
    document = _document(block, **provenance)
    assert document["comparable_with_paper"] is comparable and word in document["words"]
    assert ("not comparable" in document["words"]) is not comparable


def test_csv_rows_and_other_splits(block):
    document = _document(block)
    rows = results.csv_rows(document)
    assert [(row["split"], row["sample_id"]) for row in rows] == [("test", name) for name in IDS]
    assert results.other_splits(document, document, "validation") == {"test": block}
    assert results.other_splits(document, document, "test") == {}
    for change in (
        {"checkpoint": {"which": "best", "step": 8}},
        {"content_sha256": "other"},
        {"padding": "black"},
        {"dropout_at_test": True},
    ):
        assert results.other_splits(document | change, document, "validation") == {}


def test_model_kind():
    assert results.model_kind("unet_ronneberger", "none") == "U-Net"
    assert results.model_kind("unet_pix2pix", "none") == "U-Net"
    assert results.model_kind("linear", "none") == "linear"
    assert results.model_kind("unet_pix2pix", "patchgan") == "pix2pix"
