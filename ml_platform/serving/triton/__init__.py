"""Triton: the server as a managed process, its generated model repository, and the models that run inside it.

``router_model`` and ``version_model`` are loaded by Triton's Python backend only; nothing else imports them.
"""

from ml_platform.serving.triton.boot import Boot
from ml_platform.serving.triton.client import TritonClient
from ml_platform.serving.triton.pushing import Pusher, Served, validate
from ml_platform.serving.triton.server import Server
from ml_platform.serving.triton.wheel import is_installed

__all__ = ["Boot", "Pusher", "Served", "Server", "TritonClient", "is_installed", "validate"]
