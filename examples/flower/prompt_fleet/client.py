"""The client: tunes the prompt that it is sent on photos that never leave it, and answers with its own."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from prompt_fleet.rounds import photos_of, tuned
from qprompt_edge import Backbone

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round; the photos are in the folder that `--node-config 'photos="FOLDER"'` names."""
    backbone = Backbone.load("small", threads=1)
    photos = photos_of(Path(str(context.node_config["photos"])), backbone)
    sent = message.content["prompt"]
    prompt = tuned(bytes(sent["file"]), photos, backbone, int(context.run_config["epochs"]))
    return Message(RecordDict({"prompt": ConfigRecord({"file": prompt})}), reply_to=message)
