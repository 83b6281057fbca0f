"""The student as ONNX: one graph per forest, from float32 inputs [n, features] to weights [n, classes]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

from scionwood import files
from scionwood.errors import UserError
from scionwood.tasks.lumen.student.assemble import FORESTS

OPSET = 18


def export(forests: Mapping[str, Any], folder: Path) -> None:
    """Write FOREST.onnx for each fitted forest."""
    try:
        import skl2onnx  # noqa: F401 - the same extra brings all that is needed below
    except ImportError:
        raise UserError("skl2onnx is not installed, so no ONNX can be written: pip install 'scionwood[student]'") from None
    for name, forest in forests.items():
        files.write_bytes(Path(folder) / f"{name}.onnx", graph(forest, name).SerializeToString())


def graph(forest, name: str):
    """One forest as an ONNX model.

    The converter divides the leaves by the number of trees, which rounds them. They are put back on their grid, so that the sum over
    the trees is exact, and the division follows the sum as a node of its own.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import to_onnx

    from scionwood.tasks.lumen.student.forests import GRID

    trees = len(forest.estimators_)
    model = to_onnx(forest, np.zeros((1, forest.n_features_in_), np.float32), target_opset=OPSET)
    (node,) = model.graph.node
    for attribute in node.attribute:
        if attribute.name == "target_weights":
            exact = np.round(np.array(attribute.floats, np.float64) * trees * GRID) / GRID
            del attribute.floats[:]
            attribute.floats.extend(exact.tolist())
    node.output[0] = "sum"
    model.graph.initializer.append(numpy_helper.from_array(np.array(trees, np.float32), "trees"))
    model.graph.node.append(helper.make_node("Div", ["sum", "trees"], ["weights"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, [None, FORESTS[name]]))
    return model


class OnnxStudent:
    """A student read from ONNX. It is ``Scores``."""

    def __init__(self, folder: Path, threads: int = 1):
        try:
            import onnxruntime
        except ImportError:
            raise UserError("onnxruntime is not installed: pip install 'scionwood[student]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        missing = [name for name in FORESTS if not (Path(folder) / f"{name}.onnx").is_file()]
        if missing:
            raise UserError(f"{folder}: no {missing[0]}.onnx; 'scion lumen distil' writes all four")
        self.sessions = {name: onnxruntime.InferenceSession(str(Path(folder) / f"{name}.onnx"), options, ["CPUExecutionProvider"])
                         for name in FORESTS}

    def __call__(self, name: str, x: Sequence[float]) -> list[float]:
        return self.weights(name, [x])[0].tolist()

    def weights(self, name: str, rows: Sequence[Sequence[float]]):
        """Weights [n, classes] for inputs [n, features]."""
        import numpy as np

        session = self.sessions[name]
        return session.run(None, {session.get_inputs()[0].name: np.asarray(rows, np.float32)})[0]
