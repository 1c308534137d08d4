"""A first look at the files of a request, before its job waits for the worker.

Pillow may take long to read a file, and the worker draws for everybody. So the images of a request are read once when
it arrives, where only its own sender waits; the job finds them still in memory. ffmpeg and libsndfile read in the time
that a job's budget leaves.
"""

from x2i_app.media.guard import is_path, sniff
from x2i_app.media.images import load_image
from x2i_app.media.isolation import is_isolated
from x2i_app.media.video import load_video
from x2i_app.request import GenerationRequest


def check_files(request: GenerationRequest) -> None:
    """Read each image and animation of a request. Raises MediaError, which names the file.

    Does nothing where files are not isolated: there is only one sender, and the job would read them again.
    """
    if not is_isolated():
        return
    turns = (*request.history, request)
    images = [source for turn in turns for source in turn.images]
    for source in dict.fromkeys(
        filter(is_path, (*images, request.source_image, request.mask, request.controlnet_image))
    ):
        load_image(source)
    for source in dict.fromkeys(source for turn in turns for source in turn.videos if is_path(source)):
        if sniff(source, "video").modality == "image":
            load_video(source, max_frames=1, max_pixels=1)
