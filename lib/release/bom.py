"""The bill of materials: a CycloneDX 1.6 document with the model, its data, its files and what made it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from lib.header import CheckpointMetadata
from lib.records.schema import Environment
from lib.release.reader import Manifest


def bom_of(
    manifest: Manifest, network: CheckpointMetadata, trained_on: Environment, sums: Mapping[str, str]
) -> dict[str, Any]:
    """`sbom.cdx.json`.

    Args:
        trained_on: whose packages are listed.
        sums: SHA-256 by path of the other files.
    """
    figures = manifest.figures
    datasets = {figures.data: figures.data_hash} | ({"extra": figures.extra_hash} if figures.extra_hash else {})
    data_refs = [f"data:{name}" for name in datasets]
    metrics = [
        {"type": "top-1", "slice": split, "value": repr(found.top1)} for split, found in figures.accuracy.items()
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest.name,
        "version": manifest.version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "hashes": [{"alg": "SHA-256", "content": manifest.checkpoint_sha256}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "image classification",
                "architectureFamily": "convolutional neural network",
                "modelArchitecture": network.architecture,
                "datasets": [{"ref": ref} for ref in data_refs],
                "inputs": [{"format": f"RGB image, {network.preprocessing.image_size} pixels a side"}],
                "outputs": [{"format": f"logits of {len(network.classes)} classes"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": metrics},
            "considerations": {
                "useCases": ["teaching, research, and comparing inference backends on CPUs"],
                "technicalLimitations": ["always answers with one of its classes; not a safety component"],
            },
        },
    }
    data = [
        {
            "type": "data",
            "bom-ref": ref,
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": sha256}],
            "data": [{"type": "dataset", "name": name}],
        }
        for ref, (name, sha256) in zip(data_refs, datasets.items(), strict=True)
    ]
    files = [
        {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [{"alg": "SHA-256", "content": sha256}]}
        for path, sha256 in sums.items()
    ]
    packages = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
        }
        for name, version in trained_on.versions.items()
        if name != "python"
    ]
    content = ":".join(sums.values())
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",  # the same for the same content
        "version": 1,
        "metadata": {"component": model},
        "components": [*data, *files, *packages],
        "dependencies": [{"ref": "model", "dependsOn": [*data_refs, *(str(part["bom-ref"]) for part in packages)]}],
    }
