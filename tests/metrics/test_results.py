import json

import numpy as np
import pytest

from msi2he_jax.metrics import results
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
    )


def _document(block, **provenance):
    return results.document(
        {"test": block},
        model="pix2pix",
        padding="white",
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


def test_papers_table_stands_beside(block):
    rows = results.paper_table(_document(block, simulated=True))
    assert [row["prediction"] for row in rows[:3]] == [
        row["prediction"] for row in results.PAPER_TABLE
    ]
    assert [row["kind"] for row in rows] == ["model"] * 3 + ["alternative", "null"]
    assert not rows[0]["scores"] and not rows[1]["scores"]
    assert rows[2]["scores"]["ssim"]["mean"] == pytest.approx(1.0)
    assert (rows[0]["paper_mi"], rows[2]["paper_ssim"]) == (0.429, 0.949)
    assert all("not comparable" in row["remark"] for row in rows[:3])
    text = results.table_text(rows)
    assert "0.429" in text and "1.349" in text and "not comparable" in text
    assert len(text.splitlines()) == 1 + len(rows)


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
    remark = results.paper_table(document)[2]["remark"]
    assert ("not comparable" in remark) is not comparable


def test_csv_rows_and_other_splits(block):
    document = _document(block)
    rows = results.csv_rows(document)
    assert [(row["split"], row["sample_id"]) for row in rows] == [("test", name) for name in IDS]
    checkpoint = document["checkpoint"]
    assert results.other_splits(document, checkpoint, "validation") == {"test": block}
    assert results.other_splits(document, checkpoint, "test") == {}
    assert results.other_splits(document, {"which": "best", "step": 8}, "validation") == {}


def test_model_kind():
    assert results.model_kind("unet_ronneberger", "none") == "U-Net"
    assert results.model_kind("unet_pix2pix", "none") == "U-Net"
    assert results.model_kind("unet_pix2pix", "patchgan") == "pix2pix"
