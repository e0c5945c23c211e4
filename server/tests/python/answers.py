"""What the scripts here ask of answers, by either of Triton's clients."""

import tritonclient.grpc
from tritonclient.utils import InferenceServerException


def refused(words, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except InferenceServerException as error:
        assert words in error.message(), error
    else:
        raise AssertionError(f"not refused: {words}")


def states(client, kind):
    index = client.get_model_repository_index()
    if kind is tritonclient.grpc:
        index = [{"name": model.name, "state": model.state} for model in index.models]
    return {model["name"]: model.get("state", "") for model in index}
