"""A new instance of a function: started, asked once, and asked what it took. Run as a process of its own.

    python bench/first_request.py TARGET METHOD PATH BODY

Knows: the functions framework, as it loads main.py on Cloud Run. Does not know: what is asked. It prints one line of
JSON: the answer's status, the CPU seconds from the start of the process until main.py was loaded and those of the
request, and every module imported by then.
"""

import json
import sys
import time

import functions_framework


def main() -> None:
    """Load the function, ask it, and tell."""
    target, method, path, body = sys.argv[1:]
    client = functions_framework.create_app(target, "main.py").test_client()
    loaded = time.process_time()
    status = client.open(path, method=method, data=body.encode()).status_code
    done = time.process_time()
    told = {"status": status, "loaded": loaded, "request": done - loaded, "modules": sorted(sys.modules)}
    print(f"\n{json.dumps(told)}")


if __name__ == "__main__":
    main()
