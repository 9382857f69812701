"""Manifests, landmarks and regions that are wrong. `{}` is the folder in a message."""

MANIFEST = "sample_id,imzml,histology"
ROW = "a,x.imzML,x.png"
MARKS = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um\n"
POINTS = MARKS + "a,fit,0,0,0,0\nb,fit,900,0,901,0\nc,fit,0,900,0,899\n"
REGION = '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[%s]}}'
FILES = {"x.imzML": "x", "y.imzML": "x", "x.png": "x", "y.png": "x"}


def manifest(*rows, header=MANIFEST):
    return "\n".join([header, *rows]) + "\n"


def with_region(content):
    row = f"{ROW},r.geojson"
    return {"m.csv": manifest(row, header=f"{MANIFEST},histology_roi"), "r.geojson": content}


# The files in the folder beside FILES. `m.csv` is read as a manifest, `l.csv` as landmarks.
CASES = {
    "manifest: empty": {"m.csv": ""},
    "manifest: header only": {"m.csv": manifest()},
    "manifest: semicolons": {"m.csv": manifest().replace(",", ";")},
    "manifest: tabs": {"m.csv": manifest().replace(",", "\t")},
    "manifest: utf-16": {"m.csv": manifest(ROW).encode("utf-16")},
    "manifest: bytes": {"m.csv": bytes(range(256))},
    "manifest: unknown column": {"m.csv": manifest(ROW, header="sample_id,imzml,histologie")},
    "manifest: column twice": {"m.csv": manifest(ROW + ",p", header=MANIFEST + ",imzml")},
    "manifest: column missing": {"m.csv": manifest("a,x.png", header="sample_id,histology")},
    "manifest: too many cells": {"m.csv": manifest(ROW + ",0,0,9,9")},
    "manifest: endless cell": {"m.csv": manifest('a,x.imzML,"' + "x" * 200_000)},
    "manifest: same name twice": {"m.csv": manifest(ROW, "A,y.imzML,y.png")},
    "manifest: files missing": {"m.csv": manifest("a,z.imzML,x.png", "b,x.imzML,../z.png")},
    "manifest: name leads out": {"m.csv": manifest("../a,x.imzML,x.png")},
    "manifest: name with codes": {"m.csv": manifest("a\x1b[31m,x.imzML,x.png")},
    "manifest: name mirrored": {"m.csv": manifest("a\u202egnp,x.imzML,x.png")},
    "manifest: no name": {"m.csv": manifest(",x.imzML,x.png")},
    "manifest: pixel size": {
        "m.csv": manifest(ROW + ',"0,5"', header=MANIFEST + ",histology_um_per_px")
    },
    "manifest: pixel size nan": {
        "m.csv": manifest(ROW + ",nan", header=MANIFEST + ",msi_um_per_px")
    },
    "manifest: pixel size 1e400": {
        "m.csv": manifest(ROW + ",1e400", header=MANIFEST + ",msi_um_per_px")
    },
    "manifest: region": {"m.csv": manifest(ROW + ',"0,0,-9,9"', header=MANIFEST + ",msi_roi")},
    "manifest: region words": {"m.csv": manifest(ROW + ",all", header=MANIFEST + ",msi_roi")},
    "manifest: split": {"m.csv": manifest(ROW + ",tran", header=MANIFEST + ",split")},
    "manifest: patient in two splits": {
        "m.csv": manifest(
            ROW + ",p,train", "b,y.imzML,y.png,p,test", header=MANIFEST + ",group_id,split"
        )
    },
    "manifest: slide in two splits": {
        "m.csv": manifest(
            ROW + ",p,train", "b,y.imzML,x.png,q,test", header=MANIFEST + ",group_id,split"
        )
    },
    "geojson: no json": with_region("{"),
    "geojson: deep": with_region("[" * 100_000),
    "geojson: no polygon": with_region('{"type":"FeatureCollection","features":[]}'),
    "geojson: outside": with_region(REGION % "[[-5,0],[9,0],[9,9]]"),
    "geojson: nan": with_region(REGION % "[[NaN,0],[9,NaN],[Infinity,9]]"),
    "geojson: huge": with_region(REGION % "[[0,0],[1e308,0],[1e308,1e308]]"),
    "landmarks: empty": {"l.csv": ""},
    "landmarks: header only": {"l.csv": MARKS},
    "landmarks: semicolons": {"l.csv": POINTS.replace(",", ";")},
    "landmarks: column missing": {"l.csv": POINTS.replace(",msi_y_um", "")},
    "landmarks: decimal comma": {"l.csv": POINTS + 'd,fit,"1,5",2,3,4\n'},
    "landmarks: nan": {"l.csv": POINTS + "d,fit,nan,2,3,4\n"},
    "landmarks: unknown use": {"l.csv": POINTS + "d,train,1,2,3,4\n"},
    "landmarks: same name twice": {"l.csv": POINTS + "a,fit,1,2,3,4\n"},
    "landmarks: too many cells": {"l.csv": POINTS + "d,fit,1,2,3,4,5\n"},
    "landmarks: two points": {"l.csv": "\n".join(POINTS.splitlines()[:3]) + "\n"},
    "landmarks: on a line": {"l.csv": POINTS.replace("0,900,0,899", "1800,0,1802,0")},
    "landmarks: endless cell": {"l.csv": POINTS + '"' + "d" * 200_000},
    "landmarks: bytes": {"l.csv": bytes(range(256))},
}


def read(folder):
    """Reads what lies in a folder as preprocess would: manifest and splits, or a fit."""
    from msi2he_jax.data.manifest import read_manifest
    from msi2he_jax.data.split import assign_splits
    from msi2he_jax.registration.control_points import estimate_affine
    from msi2he_jax.registration.landmarks import read_landmarks

    if (folder / "m.csv").exists():
        return assign_splits(read_manifest(folder / "m.csv"))
    points = read_landmarks(folder / "l.csv")
    return estimate_affine(points.msi_yx_um, points.histology_yx_um, source=folder / "l.csv")
