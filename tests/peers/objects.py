"""Sends all files of a folder to a bucket with boto3 and prints the seconds that took.

objects.py ENDPOINT ACCESS-KEY SECRET-KEY BUCKET FOLDER THREADS
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config


def main():
    endpoint, access, secret, bucket, folder, threads = sys.argv[1:]
    threads = int(threads)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(max_pool_connections=32, s3={"addressing_style": "path"}),
    )
    transfer = TransferConfig(max_concurrency=max(1, 10 // threads))
    names = sorted(os.listdir(folder))

    def send(name):
        client.upload_file(os.path.join(folder, name), bucket, f"boto/{threads}/{name}", Config=transfer)

    send(names[0])
    begin = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(send, names))
    print(time.monotonic() - begin)


main()
