"""The server that tutorials write, to compare with: FastAPI, PyTorch, an upload, one image at a time.

As in Arm's learning path for this data set, but for its faults: the network runs without gradients, and the transforms
are those of the training.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import uvicorn
from fastapi import FastAPI, File, UploadFile
from PIL import Image

from lib.model import load_checkpoint


def plain_app(checkpoint: Path) -> Any:
    """One route, as in the tutorial."""
    loaded = load_checkpoint(checkpoint)
    loaded.model.eval()
    app = FastAPI()

    async def predict(file: UploadFile) -> dict[str, int]:
        image = Image.open(io.BytesIO(await file.read())).convert("RGB")
        with torch.no_grad():
            logits = loaded.model(torch.from_numpy(loaded.preprocessing.from_image(image)))
        return {"predicted_class": int(logits.argmax())}

    predict.__annotations__["file"] = Annotated[UploadFile, File()]
    app.add_api_route("/predict", predict, methods=["POST"])
    return app


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    uvicorn.run(plain_app(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="warning")
