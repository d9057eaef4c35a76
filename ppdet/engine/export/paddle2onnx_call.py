"""The call of paddle2onnx, for a process of its own, which therefore imports little else."""

from pathlib import Path


def convert_file(graph: str, target: str, opset: int) -> None:
    """Convert a graph file of Paddle, whose weights are beside it, to the ONNX file `target`.

    Raises:
        FileNotFoundError: paddle2onnx has not written it.
    """
    import paddle2onnx

    weights = str(Path(graph).with_name("model.pdiparams"))
    # With its default optimize_tool, paddle2onnx would install packages.
    paddle2onnx.export(graph, weights, target, opset_version=opset, optimize_tool="none")
    if not Path(target).is_file():
        raise FileNotFoundError(f"no file {target} was written")
