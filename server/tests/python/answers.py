"""Helpers of the test scripts: expected errors, and the states of models, with either of Triton's clients."""

import tritonclient.grpc
from tritonclient.utils import InferenceServerException


def refused(message, call, *arguments, **named):
    """Checks that a call fails with an error that contains this message."""
    try:
        call(*arguments, **named)
    except InferenceServerException as error:
        assert message in error.message(), error
    else:
        raise AssertionError(f"not refused: {message}")


def states(client, module):
    """The state of each model in the repository index."""
    index = client.get_model_repository_index()
    if module is tritonclient.grpc:
        index = [{"name": model.name, "state": model.state} for model in index.models]
    return {model["name"]: model.get("state", "") for model in index}
