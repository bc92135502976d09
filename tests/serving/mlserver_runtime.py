"""A model for MLServer, the second implementation of the protocol that our client is tested with."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Double(MLModel):
    """Twice a number, a vector of it, and a text in capitals; raises for a negative number."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0]).ravel()
        text = StringCodec.decode_input(payload.inputs[1])
        if (x < 0).any():
            raise ValueError("a negative number")
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                NumpyCodec.encode_output("twice", 2 * x),
                NumpyCodec.encode_output("pair", np.stack([x, -x], axis=1).astype(np.float32)),
                StringCodec.encode_output("loud", [t.upper() for t in text]),
            ],
        )
