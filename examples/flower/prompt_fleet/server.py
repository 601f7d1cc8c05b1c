"""The server: sends the merged prompt, merges what comes back, and writes it after the last round."""

from __future__ import annotations

import time
from logging import INFO
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from prompt_fleet.rounds import float32_bytes, merged

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds."""
    config = context.run_config
    while len(nodes := sorted(grid.get_node_ids())) < int(config["clients"]):
        time.sleep(1)
    prompt, holdout = b"", Path(str(config["holdout"])) if config["holdout"] else None
    for number in range(1, int(config["rounds"]) + 1):
        messages = [
            Message(RecordDict({"prompt": ConfigRecord({"file": prompt})}), node, MessageType.TRAIN)
            for node in nodes
        ]
        replies = list(grid.send_and_receive(messages))
        failed = [reply for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(replies)} clients failed: {failed[0].error}")
        prompts = [bytes(reply.content["prompt"]["file"]) for reply in replies]
        result = merged(prompts, holdout)
        down, up = len(nodes) * len(prompt), sum(map(len, prompts))
        as_floats = sum(map(float32_bytes, prompts)) + (len(nodes) * float32_bytes(prompt) if prompt else 0)
        log(INFO, "round %d: %d bytes to clients, %d back; %d in float32", number, down, up, as_floats)
        if result.trial is not None:
            best = result.trial.best_top1
            log(INFO, "round %d: %.3f right, the best client %.3f", number, result.trial.top1, best)
        prompt = result.prompt.to_bytes()
    Path(str(config["out"])).write_bytes(prompt)
    log(INFO, "wrote %s, %d bytes", config["out"], len(prompt))
