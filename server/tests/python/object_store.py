"""An S3 server on loopback with the bucket "models", for the tests of repositories in object stores.

Prints its port, then carries out one command a line from stdin and answers each with "ok":
put KEY FILE, put-in-parts KEY FILE, delete KEY; tabs are between the words.
"""

import logging
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from moto.server import ThreadedMotoServer

BUCKET = "models"
PART_BYTES = 5 << 20


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)
    client.create_bucket(Bucket=BUCKET)
    print(port, flush=True)
    for line in sys.stdin:
        command, key, *rest = line.rstrip("\n").split("\t")
        if command == "put":
            with open(rest[0], "rb") as file:
                client.put_object(Bucket=BUCKET, Key=key, Body=file.read())
        elif command == "put-in-parts":
            parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
            client.upload_file(rest[0], BUCKET, key, Config=parts)
        elif command == "delete":
            client.delete_object(Bucket=BUCKET, Key=key)
        else:
            raise ValueError(line)
        print("ok", flush=True)


main()
