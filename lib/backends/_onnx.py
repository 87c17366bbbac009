"""Export to ONNX with nodes that know their layer, and the way back from a runtime's optimized graph to the layers.

Runtimes fold, fuse and rename nodes. What they keep are names of some original nodes and tensors, so the names that
the export gives are unique and made of the layer's: node `stem.conv/Conv`, its output `stem.conv/Conv:0`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.backends.interface import RUNTIME

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT = "images", "logits"
BATCH = "batch"  # name of the free first dimension
LAYER = "layer"  # key of a node's metadata: the layer, as `leaf_layers` names it, or "" for a step between layers
OPSET = 20  # the newest that torch's TorchScript exporter writes

# What a runtime adds itself. Where the network has such an operator of its own, its node keeps the name.
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput", "Cast"}


def export_onnx(checkpoint: Path, path: Path) -> None:
    """Write the network of a checkpoint, not optimized, with a free batch size.

    torch has two exporters. The newer one takes 10 s even for a small network and folds batch norm into convolutions
    itself, which loses the layers; the older one needs 0.3 s and writes each layer's operators as they are.
    """
    import torch

    from lib.model import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    size = loaded.preprocessing.image_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the older exporter
        torch.onnx.export(
            loaded.model,
            (torch.zeros(2, 3, size, size),),
            path,
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # it is in eval mode; EVAL would fold batch norm
        )
    _name_by_layer(path, loaded.model)


def _name_by_layer(path: Path, model: nn.Module) -> None:
    """Rename nodes and the tensors between them after their layers, and note the layer in each node's metadata."""
    import onnx

    exported = onnx.load(path)
    _inline_shared_weights(exported.graph)
    calls: dict[str, list[str]] = {}  # module -> scopes in which it was called
    numbers: dict[str, int] = {}
    renamed: dict[str, str] = {OUTPUT: OUTPUT}
    for node in exported.graph.node:
        layer = _layer_of_scope(node.name, model, calls)
        name = f"{layer}/{node.op_type}" if layer else node.name.strip("/")
        numbers[name] = numbers.get(name, 0) + 1
        node.name = name if numbers[name] == 1 else f"{name}~{numbers[name]}"
        node.metadata_props.append(onnx.StringStringEntryProto(key=LAYER, value=layer))
        for index, output in enumerate(node.output):
            renamed.setdefault(output, f"{node.name}:{index}")
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed[name] for name in node.output]
    del exported.graph.value_info[:]
    onnx.save(exported, path)


def _inline_shared_weights(graph: Any) -> None:
    """Drop the Identity nodes by which the exporter stores equal weights once; fresh networks have many."""
    weights = {weight.name for weight in graph.initializer}
    shared = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in weights and node.output[0] != OUTPUT
    }
    kept = [node for node in graph.node if not (len(node.output) == 1 and node.output[0] in shared)]
    for node in kept:
        node.input[:] = [shared.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)


def _layer_of_scope(node_name: str, model: nn.Module, calls: dict[str, list[str]]) -> str:
    """`/layer1/layer1.0/relu_1/Relu` -> `layer1.0.relu#2`: the exporter numbers repeated calls, and names children of
    a sequence with their parent's name before them."""
    from lib.model import call_name

    *scopes, _ = node_name.split("/")
    path: list[str] = []
    module = model
    for scope in filter(None, scopes):
        name = scope.rpartition(".")[2]
        children = dict(module.named_children())
        if name not in children:
            name = name.rpartition("_")[0]
        if name not in children:
            return ""
        path.append(name)
        module = children[name]
    if not path or any(True for _ in module.children()):
        return ""
    seen = calls.setdefault(".".join(path), [])
    scope = "/".join(scopes)
    if scope not in seen:
        seen.append(scope)
    return call_name(".".join(path), seen.index(scope) + 1)


def node_groups(exported: Any, optimized: Any) -> list[str]:
    """Group of layers that each node of an optimized graph computes.

    Args:
        exported: the ModelProto that `export_onnx` wrote.
        optimized: the ModelProto that a runtime made of it and executes in this order.

    Returns:
        For each node of `optimized` the names of layers joined by `+`, or RUNTIME. Two nodes that share a layer are in
        one group, so each layer is in at most one.
    """
    nodes = list(exported.graph.node)
    layers = [_metadata(node, LAYER) for node in nodes]
    made_by = {output: index for index, node in enumerate(nodes) for output in node.output}
    names = {node.name: index for index, node in enumerate(nodes)} | made_by
    owner: dict[int, int] = {}  # index of an exported node -> index of the optimized node that computes it
    for position, node in enumerate(optimized.graph.node):
        for index in _named_in(node, names):
            for found in _back_to_main(index, node.op_type, nodes, made_by, set(owner)):
                owner.setdefault(found, position)
    by_layer: dict[str, int] = {}
    for index, position in owner.items():
        by_layer.setdefault(layers[index], position)
    by_layer.pop("", None)
    for index, node in enumerate(nodes):  # what was fused away: to the rest of its layer, or else to what came before
        if index in owner:
            continue
        before = [owner[made_by[name]] for name in node.input if made_by.get(name) in owner]
        if layers[index] in by_layer:
            owner[index] = by_layer[layers[index]]
        elif before:
            owner[index] = max(before)
    return _joined(len(optimized.graph.node), layers, owner)


def _metadata(node: Any, key: str) -> str:
    return next((str(entry.value) for entry in node.metadata_props if entry.key == key), "")


def _named_in(node: Any, names: dict[str, int]) -> Iterator[int]:
    """Exported nodes whose name, or whose output's name, an optimized node carries, perhaps with something after it."""
    for carried in (node.name, *node.output):
        longest = max((name for name in names if carried.startswith(name)), key=len, default=None)
        if longest is not None and (node.op_type not in _CONVERSIONS or carried in (longest, f"{longest}_nchwc")):
            yield names[longest]


def _kind(op_type: str) -> str:
    """Operator that a fused or quantized one stands for: QLinearConv -> Conv, FusedConv -> Conv, QGemm -> Gemm."""
    for prefix in ("QLinear", "Fused", "Nhwc", "Q"):
        op_type = op_type.removeprefix(prefix)
    return op_type


def _back_to_main(index: int, op_type: str, nodes: list[Any], made_by: dict[str, int], taken: set[int]) -> list[int]:
    """The node and, if it is of another kind than the fused one, those before it down to the first of that kind.

    A fused convolution often carries the name of the activation at its end.
    """
    if op_type in _CONVERSIONS and nodes[index].op_type != op_type:
        return []  # a conversion after the node, named after it
    found = [index]
    while _kind(nodes[found[-1]].op_type) != _kind(op_type):
        before = [made_by[name] for name in nodes[found[-1]].input if name in made_by]
        if len(before) != 1 or before[0] in taken:
            return [index]
        found.append(before[0])
    return found


def _joined(num_nodes: int, layers: list[str], owner: dict[int, int]) -> list[str]:
    """Names of groups: nodes that share a layer, directly or through others, are one."""
    import networkx  # type: ignore[import-untyped]

    shared = networkx.Graph()  # of numbers of optimized nodes and names of the layers that they compute
    shared.add_nodes_from(range(num_nodes))
    shared.add_edges_from((number, layers[index]) for index, number in owner.items() if layers[index])
    groups = [RUNTIME] * num_nodes
    for together in networkx.connected_components(shared):
        members = [layer for layer in dict.fromkeys(layers) if layer in together]  # in the order of the network
        for number in together.difference(members):
            groups[number] = "+".join(members) or RUNTIME
    return groups
