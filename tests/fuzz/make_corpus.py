"""Writes the made part of the corpus: for each parser what it must read, and what it must refuse.

    python tests/fuzz/make_corpus.py      needs onnx and numpy, as fixtures/trees/requirements.txt pins them

corpus/PARSER/read and corpus/PARSER/refused hold a file for each case, named by what is the matter with it. Inputs that fuzzing once broke a
parser with lie among them as crash-*; this script leaves them alone.
"""
import json
import pathlib
import struct

import numpy as np
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE.parent.parent / "fixtures/trees/cases"
STUDENT = HERE.parent.parent / "fixtures/teachers/studio/model.json"
MANY = 1_000_000_000


def put(parser, verdict, name, data):
    folder = HERE / "corpus" / parser / verdict
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def edited(parser, whole, edits):
    """Refused: the whole with each of `edits` (name, from, to)."""
    for name, before, after in edits:
        assert whole.count(before), (parser, name)
        put(parser, "refused", name, whole.replace(before, after, 1))


def cut(parser, whole, shares=(0.1, 0.5, 0.9)):
    for share in shares:
        put(parser, "refused", f"truncated-{round(100 * share)}", whole[:round(len(whole) * share)])
    put(parser, "refused", "empty", b"")


LIGHTGBM = """tree
version=v4
num_class=1
num_tree_per_iteration=1
max_feature_idx=1
objective=binary sigmoid:1

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=0.5 0
decision_type=10 1
left_child=1 -1
right_child=-2 -3
leaf_value=-1 2 0.25
cat_boundaries=0 1
cat_threshold=5
is_linear=0
shrinkage=1

end of trees
"""


def lightgbm():
    put("lightgbm", "read", "minimal", LIGHTGBM)
    put("lightgbm", "read", "one-leaf", LIGHTGBM[:LIGHTGBM.index("num_leaves")] + "num_leaves=1\nleaf_value=0.5\n\nend of trees\n")
    put("lightgbm", "read", "zero-missing", LIGHTGBM.replace("decision_type=10 1", "decision_type=6 1").replace("threshold=0.5", "threshold=1e-36"))
    put("lightgbm", "read", "a-million-features-that-no-tree-uses", LIGHTGBM.replace("max_feature_idx=1", "max_feature_idx=999999"))
    for name in ("ova", "forest_classes", "category_zero", "constant"):
        put("lightgbm", "read", name, (CASES / f"lightgbm_{name}.txt").read_bytes())
    cut("lightgbm", LIGHTGBM)
    put("lightgbm", "read", "a-chain", chain(1000))
    edited("lightgbm", LIGHTGBM, [
        ("cycle", "left_child=1", "left_child=0"), ("two-parents", "right_child=-2", "right_child=1"),
        ("child-out-of-range", "left_child=1", "left_child=7"), ("leaf-out-of-range", "right_child=-2", "right_child=-9"),
        ("child-at-the-end-of-i32", "right_child=-2", "right_child=-2147483648"),
        ("feature-out-of-range", "split_feature=0 1", "split_feature=0 2"), ("many-leaves", "num_leaves=3", f"num_leaves={MANY}"),
        ("most-leaves", "num_leaves=3", f"num_leaves={2**64 - 1}"), ("no-leaves", "num_leaves=3", "num_leaves=0"),
        ("many-classes", "num_tree_per_iteration=1", f"num_tree_per_iteration={MANY}"), ("no-classes", "num_tree_per_iteration=1", "num_tree_per_iteration=0"),
        ("most-features", "max_feature_idx=1", f"max_feature_idx={2**64 - 1}"), ("nan-threshold", "threshold=0.5", "threshold=nan"),
        ("infinite-leaf", "leaf_value=-1", "leaf_value=inf"), ("nan-slope", "sigmoid:1", "sigmoid:nan"), ("set-out-of-range", "threshold=0.5 0", "threshold=0.5 1"),
        ("many-sets", "num_cat=1", f"num_cat={MANY}"), ("sets-that-go-back", "cat_boundaries=0 1", "cat_boundaries=1 0"),
        ("long-sets", "cat_boundaries=0 1", f"cat_boundaries=0 {MANY}"), ("linear-trees", "is_linear=0", "is_linear=1"),
        ("custom-objective", "objective=binary sigmoid:1\n", ""), ("other-objective", "binary", "poisson"), ("no-trees", LIGHTGBM[LIGHTGBM.index("Tree=0"):-13], "")])


def chain(splits):
    """A tree as deep as it has splits."""
    lists = {"split_feature": ["0"] * splits, "threshold": [str(i) for i in range(splits)], "decision_type": ["8"] * splits,
             "left_child": [str(~i) for i in range(splits)], "right_child": [*(str(i + 1) for i in range(splits - 1)), str(~splits)],
             "leaf_value": [str(i % 7) for i in range(splits + 1)]}
    body = "\n".join(f"{k}={' '.join(v)}" for k, v in lists.items())
    return LIGHTGBM[:LIGHTGBM.index("num_leaves")] + f"num_leaves={splits + 1}\nnum_cat=0\n{body}\n\nend of trees\n"


TREE = {"left_children": [1, -1, 3, -1, -1], "right_children": [2, -1, 4, -1, -1], "split_indices": [0, 0, 1, 0, 0],
        "split_conditions": [0.5, 1.0, 0.0, 2.0, 3.0], "default_left": [1, 0, 0, 0, 0], "split_type": [0, 0, 1, 0, 0], "categories": [1, 3],
        "categories_nodes": [2], "categories_segments": [0], "categories_sizes": [2], "tree_param": {"size_leaf_vector": "1"}}
XGBOOST = {"learner": {"learner_model_param": {"base_score": "[5E-1]", "num_class": "0", "num_feature": "2", "num_target": "1"},
                       "objective": {"name": "binary:logistic"},
                       "gradient_booster": {"name": "gbtree", "model": {"tree_info": [0], "trees": [TREE]}}}, "version": [3, 2, 0]}


def ubjson(value):
    """XGBoost's UBJSON: lists of numbers typed, integers as int64."""
    if isinstance(value, dict):
        return b"{" + b"".join(b"L" + struct.pack(">q", len(k)) + k.encode() + ubjson(v) for k, v in value.items()) + b"}"
    if isinstance(value, str):
        return b"SL" + struct.pack(">q", len(value)) + value.encode()
    if isinstance(value, int):
        return b"L" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">f", value)
    if value and all(isinstance(v, float) for v in value):
        return b"[$d#L" + struct.pack(">q", len(value)) + struct.pack(f">{len(value)}f", *value)
    if value and all(isinstance(v, int) for v in value):
        return b"[$l#L" + struct.pack(">q", len(value)) + struct.pack(f">{len(value)}i", *value)
    return b"[" + b"".join(map(ubjson, value)) + b"]"


def xgboost():
    whole = json.dumps(XGBOOST, separators=(",", ":"))
    edits = [
        ("cycle", '"left_children":[1', '"left_children":[0'), ("two-parents", '"right_children":[2', '"right_children":[1'),
        ("child-out-of-range", '"left_children":[1,-1,3', '"left_children":[1,-1,9'), ("one-child", '"right_children":[2,-1,4', '"right_children":[2,-1,-1'),
        ("negative-child", '"left_children":[1', '"left_children":[-2'), ("feature-out-of-range", '"split_indices":[0,0,1', '"split_indices":[0,0,2'),
        ("many-features", '"num_feature":"2"', '"num_feature":"-1"'), ("infinite-threshold", "[0.5,1.0", "[1e99,1.0"),
        ("lists-that-differ", '"default_left":[1,0,0,0,0]', '"default_left":[1]'), ("many-classes", '"num_class":"0"', f'"num_class":"{MANY}"'),
        ("categories-out-of-range", '"categories_sizes":[2]', f'"categories_sizes":[{MANY}]'), ("categories-nowhere", '"categories_nodes":[2]', '"categories_nodes":[7]'),
        ("huge-category", '"categories":[1,3]', '"categories":[1,4000000000]'), ("certain-base", "[5E-1]", "[1]"), ("base-of-two", "[5E-1]", "[5E-1,5E-1]"),
        ("output-out-of-range", '"tree_info":[0]', '"tree_info":[1]'), ("no-trees", '"tree_info":[0]', '"tree_info":[]'),
        ("unknown-split", '"split_type":[0', '"split_type":[9'), ("vector-leaves", '"size_leaf_vector":"1"', '"size_leaf_vector":"3"'),
        ("gblinear", '"gbtree"', '"gblinear"'), ("other-objective", "binary:logistic", "rank:ndcg"), ("trailing-data", '"version":[3,2,0]}', '"version":[3,2,0]}}')]
    put("xgboost_json", "read", "minimal", whole)
    for name in ("version1", "dart_softprob"):
        put("xgboost_json", "read", name, (CASES / f"xgboost_{name}.json").read_bytes())
    edited("xgboost_json", whole, edits)
    cut("xgboost_json", whole)
    put("xgboost_json", "refused", "deep", '{"a":' * 3_000)
    put("xgboost_json", "refused", "deep-list", '{"learner":' + "[" * 3_000)
    put("xgboost_json", "refused", "old-binary", b"binf" + bytes(40))
    binary = ubjson(XGBOOST)
    put("xgboost_ubjson", "read", "minimal", binary)
    put("xgboost_ubjson", "read", "category_onehot", (CASES / "xgboost_category_onehot.ubj").read_bytes())
    cut("xgboost_ubjson", binary)
    for name, before, after in edits:
        if name not in ("infinite-threshold", "trailing-data", "huge-category"):
            put("xgboost_ubjson", "refused", name, ubjson(json.loads(whole.replace(before, after, 1))))
    length = struct.pack(">q", 5)
    edited("xgboost_ubjson", binary, [
        ("nan-threshold", struct.pack(">f", 0.5), struct.pack(">f", np.nan)), ("long-list", b"#L" + length, b"#L" + struct.pack(">q", MANY)),
        ("negative-length", b"#L" + length, b"#L" + struct.pack(">q", -1)), ("longest-text", b"L" + struct.pack(">q", 7), b"L" + struct.pack(">q", 2**63 - 1)),
        ("items-of-nothing", b"[$l#L" + length, b"[$Z#L" + struct.pack(">q", MANY)), ("type-without-count", b"[$l#L", b"[$l@L")])
    put("xgboost_ubjson", "refused", "deep", b"{L" + struct.pack(">q", 1) + b"a" + b"[" * 3_000)
    put("xgboost_ubjson", "refused", "no-operations", b"{" + b"N" * 3_000)


def classifier(**changes):
    """A graph of one tree over six columns: P(second) is 0.9 where column 0 <= 0.5, else 0.2 or, by column 1 > 2, 0.4."""
    lists = dict(classlabels_int64s=[0, 1], class_ids=[0, 0, 0], class_treeids=[0, 0, 0], class_nodeids=[1, 3, 4], class_weights=[0.9, 0.2, 0.4],
                 nodes_treeids=[0] * 5, nodes_nodeids=[0, 1, 2, 3, 4], nodes_featureids=[0, 0, 1, 0, 0], nodes_truenodeids=[1, 0, 4, 0, 0],
                 nodes_falsenodeids=[2, 0, 3, 0, 0], nodes_missing_value_tracks_true=[1, 0, 0, 0, 0], nodes_values=[0.5, 0.0, 2.0, 0.0, 0.0],
                 nodes_modes=["BRANCH_LEQ", "LEAF", "BRANCH_GT", "LEAF", "LEAF"]) | changes
    return model([helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", **lists)])


def trees(**changes):
    """The same by the newer operator."""
    lists = dict(n_targets=1, tree_roots=[0], nodes_featureids=[0, 1], nodes_truenodeids=[0, 2], nodes_trueleafs=[1, 1], nodes_falsenodeids=[1, 1],
                 nodes_falseleafs=[0, 1], leaf_targetids=[0, 0, 0], nodes_missing_value_tracks_true=[1, 0],
                 nodes_modes=np.array([0, 3], np.uint8), nodes_splits=np.array([0.5, 2.0], np.float32), leaf_weights=np.array([0.9, 0.2, 0.4], np.float32)) | changes
    lists = {k: numpy_helper.from_array(v, k) if isinstance(v, np.ndarray) else v for k, v in lists.items()}
    return model([helper.make_node("TreeEnsemble", ["x"], ["p"], domain="ai.onnx.ml", **lists)])


def regressor(**changes):
    lists = dict(n_targets=1, target_ids=[0, 0], target_treeids=[0, 0], target_nodeids=[1, 2], target_weights=[-1.0, 1.0], nodes_treeids=[0] * 3,
                 nodes_nodeids=[0, 1, 2], nodes_featureids=[3, 0, 0], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
                 nodes_values=[0.5, 0.0, 0.0], nodes_modes=["BRANCH_LT", "LEAF", "LEAF"]) | changes
    nodes = [helper.make_node("TreeEnsembleRegressor", ["x"], ["z"], domain="ai.onnx.ml", **lists), helper.make_node("Sigmoid", ["z"], ["p"])]
    return model(nodes)


def model(nodes, inputs=(("x", 6),), constants=()):
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]) for name, width in inputs]
    output = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, None])
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants]
    graph = helper.make_graph(nodes, "trees", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)], ir_version=10)


def prepared():
    """Named inputs, side by side, imputed, scaled, chosen and shifted."""
    last = classifier().graph.node[0]
    last.input[0] = "shifted"
    f32 = np.float32
    return model([helper.make_node("Concat", ["f3", "f0", "f1", "f2", "f4"], ["all"], axis=1),
                  helper.make_node("Imputer", ["all"], ["full"], domain="ai.onnx.ml", imputed_value_floats=[1.0, 2.0, 3.0, 4.0, 5.0], replaced_value_float=np.nan),
                  helper.make_node("Scaler", ["full"], ["scaled"], domain="ai.onnx.ml", offset=[0.0] * 5, scale=[1.0, 2.0, 1.0, 1.0, 1.0]),
                  helper.make_node("ArrayFeatureExtractor", ["scaled", "places"], ["chosen"], domain="ai.onnx.ml"),
                  helper.make_node("Sub", ["chosen", "by"], ["shifted"]), last],
                 [(f"f{i}", 1) for i in range(5)], [("places", np.array([1, 0, 4])), ("by", np.array([[0.5, 0.0, 1.0]], f32))])


def graphs():
    whole = classifier()
    for name, graph in {"minimal": whole, "regressor": regressor(), "trees": trees(), "prepared": prepared(),
                        "trees-of-one-leaf": trees(nodes_truenodeids=[0, 0], nodes_falsenodeids=[0, 0], nodes_falseleafs=[1, 1]),
                        "average": regressor(aggregate_function="AVERAGE"), "for-a-runtime": classifier(nodes_modes=["BRANCH_EQ", "LEAF", "BRANCH_EQ", "LEAF", "LEAF"]),
                        "many-targets": regressor(n_targets=MANY), "many-targets-of-trees": trees(n_targets=MANY)}.items():
        put("onnx", "read", name, graph.SerializeToString(deterministic=True))
    put("onnx", "read", "lightgbm_3", (CASES / "onnx_lightgbm_3.onnx").read_bytes())
    put("onnx", "read", "no-outputs", helper.make_model(helper.make_graph([], "none", [], [])).SerializeToString())
    circle = model([helper.make_node("Identity", ["q"], ["p"]), helper.make_node("Identity", ["p"], ["q"])])
    put("onnx", "read", "a-circle-of-nodes", circle.SerializeToString())
    wide = classifier(classlabels_int64s=list(range(3000)), class_ids=[0, 1, 2999])
    put("onnx", "read", "few-weights-of-many-classes", wide.SerializeToString())
    cut("onnx", whole.SerializeToString(deterministic=True))
    for name, graph in {
            "cycle": classifier(nodes_truenodeids=[0, 0, 4, 0, 0]), "two-parents": classifier(nodes_truenodeids=[3, 0, 4, 0, 0]),
            "child-out-of-range": classifier(nodes_truenodeids=[77, 0, 4, 0, 0]), "negative-child": classifier(nodes_truenodeids=[-1, 0, 4, 0, 0]),
            "feature-out-of-range": classifier(nodes_featureids=[6, 0, 1, 0, 0]), "most-feature": classifier(nodes_featureids=[2**63 - 1, 0, 1, 0, 0]),
            "nan-threshold": classifier(nodes_values=[np.nan, 0.0, 2.0, 0.0, 0.0]), "infinite-weight": classifier(class_weights=[np.inf, 0.2, 0.4]),
            "node-twice": classifier(nodes_nodeids=[0, 1, 2, 3, 3]), "lists-that-differ": classifier(nodes_values=[0.5]),
            "weight-of-no-node": classifier(class_nodeids=[1, 3, 9]), "weight-of-no-class": classifier(class_ids=[0, 1, MANY]),
            "target-out-of-range": regressor(target_ids=[0, 5]), "negative-target": regressor(target_ids=[0, -1]),
            "trees-cycle": trees(nodes_falsenodeids=[0, 1]), "trees-child-out-of-range": trees(nodes_truenodeids=[9, 2]),
            "trees-root-out-of-range": trees(tree_roots=[MANY]), "trees-root-twice": trees(tree_roots=[0, 0]), "trees-leaf-of-no-target": trees(leaf_targetids=[0, 0, 7]),
            "trees-lists-that-differ": trees(nodes_trueleafs=[1]), "trees-nan-threshold": trees(nodes_splits=np.array([np.nan, 2.0], np.float32))}.items():
        put("onnx", "refused", name, graph.SerializeToString(deterministic=True))
    outside = classifier()
    tensor = outside.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    put("onnx", "refused", "external-data", outside.SerializeToString())
    # a subgraph is field 6 of an attribute, which is field 5 of a node, which is field 1 of a graph
    deep = b""
    for _ in range(400):
        node = b"\x2a" + varint(len(deep)) + deep
        graph = b"\x0a" + varint(len(node)) + node
        deep = b"\x32" + varint(len(graph)) + graph
    node = b"\x2a" + varint(len(deep)) + deep
    graph = b"\x0a" + varint(len(node)) + node
    put("onnx", "refused", "deep", b"\x3a" + varint(len(graph)) + graph)
    put("onnx", "refused", "long-field", b"\x3a\xff\xff\xff\xff\x7f")


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def footers():
    group, leaf = b"\x55\x02\x00", b"\x00"

    def file(footer):
        return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"

    def schema(groups):
        return b"\x15\x02\x19" + (b"\xfc" + varint(groups + 1)) + group * groups + leaf + leaf
    put("footer", "read", "flat", file(b"\x15\x02\x19\x2c" + group + leaf + leaf))
    put("footer", "read", "sixty-groups", file(schema(60)))
    put("footer", "read", "many-elements", file(b"\x15\x02\x19\xfc" + varint(MANY) + group))
    put("footer", "read", "many-truths", file(b"\x19\xf1" + varint(2**40)))
    put("footer", "read", "deep-lists", file(b"\x19" + b"\x19" * 3_000))
    put("footer", "read", "html", b"<html>PAR1")
    put("footer", "read", "longer-than-the-file", b"PAR1" + struct.pack("<I", 2**32 - 1) + b"PAR1")
    put("footer", "refused", "deep", file(schema(20_000)))
    put("footer", "refused", "a-group-too-deep", file(schema(64)))


TEACHER = """name = "april"
scenario = "Bank marketing, April calls"

[model]
file = "model.txt"
format = "onnx"
classes = ["no", "yes"]

[history]
accounts = "history.parquet"
label = "label"
held_out = "held_out"

[training]
rows = 2932
until = "2025-12-31"

[[features]]
name = "age"
kind = "number"
missing = 40.0

[[features]]
name = "job"
kind = "category"
encode = "one_hot"
values = ["admin.", "blue-collar"]

[[features]]
name = "city"
kind = "category"
encode = "text"
"""


def teachers():
    put("teacher_toml", "read", "whole", TEACHER)
    put("teacher_toml", "read", "with-a-profile", TEACHER.replace('accounts = "history.parquet"\nlabel = "label"\nheld_out = "held_out"', 'profile = "p.json"'))
    edited("teacher_toml", TEACHER, [
        ("unknown-key", "rows = 2932", "rows = 2932\ncolour = 1"), ("key-twice", "rows = 2932", "rows = 2932\nrows = 1"), ("negative-rows", "2932", "-1"),
        ("huge-rows", "2932", "99999999999999999999"), ("name-of-a-path", '"april"', '"../april"'), ("one-class", '["no", "yes"]', '["no"]'),
        ("class-twice", '["no", "yes"]', '["no", "no"]'), ("unknown-format", '"onnx"', '"pickle"'), ("text-for-trees", '"onnx"', '"lightgbm"'),
        ("number-encoded", 'kind = "number"', 'kind = "number"\nencode = "code"'), ("infinite-missing", "40.0", "inf"), ("missing-of-another-kind", "40.0", '"forty"'),
        ("value-twice", '"blue-collar"', '"admin."'), ("no-values", 'values = ["admin.", "blue-collar"]', ""), ("feature-twice", '"age"', '"job"'),
        ("no-label", 'label = "label"\n', ""), ("nothing-after", TEACHER[TEACHER.index("[[features]]"):], "")])
    cut("teacher_toml", TEACHER, (0.1, 0.5))
    put("teacher_toml", "refused", "deep", "name = " + "[" * 10_000)
    put("teacher_toml", "refused", "deep-tables", "a." * 500 + "a = 1")
    put("teacher_toml", "refused", "no-text", b"name = \"\xff\"")


def trained(**model_changes):
    tree = {"output": 0, "column": [0, 1], "rule": [0.5, [0, 2]], "null_left": [True, False], "left": [-1, -2], "right": [1, -3], "leaf": [0.1, -0.2, 0.3]}
    model = {"link": "sigmoid", "base": [0.0], "scale": 1.0, "start": None, "trees": [tree | model_changes.pop("tree", {})]} | model_changes
    return {"format": "coldstart-student", "version": 1, "family": "boosted", "classes": 2, "columns": ["number", {"category": {"levels": 3}}], "model": {"trees": model}}


def students():
    number = {"number": {"mean": 1.0, "deviation": 2.0, "weight": [-0.5, 0.5], "null": [0.1, -0.1]}}
    category = {"category": {"levels": [2, 0], "weights": [[0.1, -0.1], [0.2, -0.2]]}}

    def linear(**changes):
        whole = {"format": "coldstart-student", "version": 1, "family": "logistic", "classes": 2, "columns": ["number", {"category": {"levels": 3}}, "number"],
                 "model": {"logistic": {"bias": [0.0, 0.1], "terms": [number, category, "nothing"]}}}
        return json.dumps(whole | changes)
    for name, student in {"linear": linear(), "boosted": json.dumps(trained()), "forest": json.dumps(trained(link="identity", base=[0.5]) | {"family": "forest"}),
                          "a-level-far-up": linear(columns=["number", {"category": {"levels": 1 << 20}}, "number"])}.items():
        put("student", "read", name, student)
    put("student", "read", "studio", STUDENT.read_bytes())
    # each column of a few bytes claims a million levels
    many = 5000
    empty = {"logistic": {"bias": [0.0, 0.1], "terms": [{"category": {"levels": [], "weights": []}}] * many}}
    put("student", "read", "millions-of-levels-without-weights", linear(columns=[{"category": {"levels": 1 << 20}}] * many, model=empty).replace(" ", ""))
    cut("student", linear())
    for name, student in {
            "other-format": linear(format="x"), "newer-version": linear(version=2), "unknown-key": linear(colour=1), "many-classes": linear(classes=4 * MANY),
            "no-classes": linear(classes=0), "many-levels": linear(columns=["number", {"category": {"levels": MANY}}, "number"]), "no-columns": linear(columns=[]),
            "family-of-another-model": linear(family="forest"), "level-out-of-range": linear(columns=["number", {"category": {"levels": 2}}, "number"]),
            "cycle": json.dumps(trained(tree={"right": [0, -3]})), "child-out-of-range": json.dumps(trained(tree={"right": [9, -3]})),
            "leaves-missing": json.dumps(trained(tree={"leaf": [0.1]})), "column-out-of-range": json.dumps(trained(tree={"column": [0, 7]})),
            "split-of-another-kind": json.dumps(trained(tree={"rule": [0.5, 0.5]})), "levels-not-ascending": json.dumps(trained(tree={"rule": [0.5, [2, 0]]})),
            "output-out-of-range": json.dumps(trained(tree={"output": 1})), "huge-leaf": json.dumps(trained(tree={"leaf": [1e300, 0.0, 0.0]})),
            "no-base": json.dumps(trained(base=[])), "softmax-of-one": json.dumps(trained(link="softmax"))}.items():
        put("student", "refused", name, student)
    edited("student", linear(), [("nan", "0.1", "NaN"), ("infinite", "0.1", "1e999"), ("zero-deviation", "2.0", "0.0"), ("null-number", "0.1", "null")])
    put("student", "refused", "deep", "[" * 3_000)


SKETCH = ('{"format":1,"rows":5,"features":{"age":{"number":{"nulls":1,"nans":0,"n":4,"min":1.0,"max":9.5,"exact":true,"values":[1.0,9.5],"counts":[3,1]}},'
          '"job":{"category":{"nulls":2,"other":1,"levels":[["clerk",1],["cook",1]]}}}}')


def sketches():
    put("sketch", "read", "whole", SKETCH)
    put("sketch", "read", "empty-column", '{"format":1,"rows":0,"features":{"x":{"number":{"nulls":0,"nans":0,"n":0,"min":null,"max":null,"exact":true,"values":[],"counts":[]}}}}')
    cut("sketch", SKETCH)
    edited("sketch", SKETCH, [
        ("counts-too-high", "[3,1]", "[3,2]"), ("counts-too-few", "[3,1]", "[4]"), ("not-ascending", "[1.0,9.5]", "[9.5,1.0]"), ("beyond-the-greatest", '"max":9.5', '"max":9.0'),
        ("no-greatest", '"max":9.5', '"max":null'), ("sum-that-overflows", '"nulls":1', '"nulls":18446744073709551615'), ("too-many-rows", '"rows":5', f'"rows":{2**63}'),
        ("level-twice", '"clerk"', '"cook"'), ("infinite", "9.5,", "1e999,"), ("newer-version", '"format":1', '"format":2'), ("unknown-key", '"rows":5', '"rows":5,"colour":1'),
        ("negative-count", "[3,1]", "[5,-1]")])
    put("sketch", "refused", "deep", '{"features":' * 3_000)


if __name__ == "__main__":
    for make in (lightgbm, xgboost, graphs, footers, teachers, students, sketches):
        make()
