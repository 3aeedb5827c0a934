"""Other kinds of files that users give instead of weights, recognised by their first bytes."""

from data_pipeline.known_files import KnownFile, known_file

FAMILIES = "YOLOv5 v6 or v7, YOLOv5u, YOLOv8, YOLO11 or YOLO26"
"""Published networks whose checkpoints can be read, for messages."""

_OTHERS = (
    (
        b"\x89HDF\r\n\x1a\n",
        KnownFile("an HDF5 file of Keras", f"give a checkpoint of {FAMILIES}"),
    ),
    (b"\x1f\x8b", KnownFile("a gzip archive", "unpack it")),
    (b"\x93NUMPY", KnownFile("a NumPy array", "save all arrays by name with safetensors.numpy.save_file")),
    (b"\x80\x02", KnownFile("a pickle that torch.save did not write", "save the weights with torch.save")),
    (b"\x80\x03", KnownFile("a pickle that torch.save did not write", "save the weights with torch.save")),
    (b"\x80\x04", KnownFile("a pickle that torch.save did not write", "save the weights with torch.save")),
    (b"\x80\x05", KnownFile("a pickle that torch.save did not write", "save the weights with torch.save")),
    (b"\x08", KnownFile("an ONNX program, as it seems", "give the checkpoint it was made from")),
)


def known_weights(start: bytes) -> KnownFile | None:
    """Return the kind of a file that is neither of torch.save nor of safetensors, or None if it is unknown.

    Args:
      start: First 1024 bytes of the file or more, or all bytes of a shorter file.
    """
    if not start:
        return KnownFile("an empty file", "copy it again from its source")
    for signature, kind in _OTHERS:
        if start.startswith(signature) and start[8:9] != b"{":  # a header of safetensors
            return kind
    return known_file(start)
