"""Calls a server with TLS and tokens with Triton's clients: access.py PORTS CA_FILE TOKEN_FILE"""

import json
import sys

import numpy
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils

ports, authority, tokens = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
token, other = (line.strip() for line in open(tokens))
numbers = numpy.ones((1, 4), numpy.float32)
clients = {
    tritonclient.http: tritonclient.http.InferenceServerClient(
        f"localhost:{ports['http']}", ssl=True, ssl_options={"ca_certs": authority}
    ),
    tritonclient.grpc: tritonclient.grpc.InferenceServerClient(
        f"localhost:{ports['grpc']}", ssl=True, root_certificates=authority
    ),
}


def infer(module, headers):
    tensor = module.InferInput("x", numbers.shape, "FP32")
    tensor.set_data_from_numpy(numbers)
    return clients[module].infer("identity", [tensor], headers=headers)


for module, refusal in ((tritonclient.http, "401"), (tritonclient.grpc, "StatusCode.UNAUTHENTICATED")):
    client = clients[module]
    assert client.is_server_live() and client.is_server_ready()
    for headers in (None, {"authorization": "Bearer wrong-token-0123456789"}):
        try:
            infer(module, headers)
        except tritonclient.utils.InferenceServerException as error:
            assert error.status() == refusal and "token" in error.message(), error
        else:
            raise AssertionError(f"{module.__name__} was served with {headers}")
    for good in (token, other):
        infer(module, {"authorization": f"Bearer {good}"})
        assert client.get_server_metadata(headers={"authorization": f"Bearer {good}"})
print("access ok")
