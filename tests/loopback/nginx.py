"""A private nginx over a folder: Range requests as object stores answer them, and their failures on demand."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loopback.process import accepts, find_program, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

# Every path nginx would write to is set: its built-in ones under /var/lib/nginx belong to root.
CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  default_type application/octet-stream;
  log_format requests '$status $request_method $uri $http_range';
  access_log {access_log};
  sendfile on;
  {zones}
  server {{
    listen 127.0.0.1:{port};
    root "{root}";
    location / {{
      {faults}
    }}
  }}
}}
"""


def _faults(error_rate: float, requests_per_second: int | None, *, ranges: bool) -> tuple[str, str]:
    """The directives for the http block and for the location block."""
    zones, faults = "", "" if ranges else "max_ranges 0;\n"
    if error_rate >= 1:
        faults += "return 503;"
    elif error_rate > 0:
        # request_id is random, so each request draws afresh: a retry of the same URL may succeed
        zones += f'split_clients "$request_id" $fault {{ {100 * error_rate:.2f}% 1; * 0; }}\n'
        faults += "if ($fault) { return 503; }\n"
    if requests_per_second is not None:
        zones += f"limit_req_zone $server_addr zone=all:1m rate={requests_per_second}r/s;\n"
        faults += f"limit_req zone=all burst={requests_per_second} nodelay;\nlimit_req_status 429;\n"
    return zones, faults


@contextmanager
def serve_files(
    root: Path,
    *,
    error_rate: float = 0.0,
    requests_per_second: int | None = None,
    ranges: bool = True,
    access_log: Path | None = None,
) -> Iterator[str]:
    """Serve a folder over HTTP on a free loopback port; yields the base URL, without a slash at its end.

    Args:
        root: The folder; `<base URL>/a/b.tif` is `root/a/b.tif`.
        error_rate: Share (0..1) of requests answered with 503, drawn independently a request.
        requests_per_second: Above this rate (after a burst of one second's worth) requests are answered with 429.
        ranges: Whether a part of a file can be asked for; without, every answer is the whole file.
        access_log: A file that gets one line a request: status, method, path, and the Range header or `-`.
    """
    program = find_program("nginx", "nginx-light")
    port = free_port()
    zones, faults = _faults(error_rate, requests_per_second, ranges=ranges)
    with tempfile.TemporaryDirectory(prefix="loopback-nginx-") as name:
        folder = Path(name)
        configuration = folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                port=port,
                root=root.resolve(strict=True),
                # started by root, the worker would become www-data, who may not enter pytest's private folders
                user="user root;" if os.geteuid() == 0 else "",
                access_log=f'"{access_log.resolve()}" requests' if access_log else "off",
                zones=zones,
                faults=faults,
            )
        )
        command = [program, "-p", name, "-c", str(configuration), "-e", "stderr"]
        with serving(command, ready=lambda: accepts(port), folder=folder, name="nginx"):
            yield f"http://127.0.0.1:{port}"
