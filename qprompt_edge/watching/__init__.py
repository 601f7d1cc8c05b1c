"""The loop of `watch`: frames of a camera, a stream or a folder come in, answers go out."""
