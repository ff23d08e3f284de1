"""vLLM without our code, for benchmarks/engines.py and local_judge.py. Reads and writes JSON lines.

The first line holds the keyword arguments of `vllm.LLM`. Each further line starts a round:
{"prompts": token lists, "new": new tokens}. Its reply has tokens, seconds, cpu (seconds).
With "schema", texts follow a JSON Schema and end by themselves, after at most `new` tokens.
"""

import json
import os
import sys
import time

os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from vllm import LLM, SamplingParams
from vllm.sampling_params import StructuredOutputsParams


def main() -> None:
    """Run rounds until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is not a reply
    llm = LLM(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        task = json.loads(line)
        new = task["new"]
        if "schema" in task:
            rest = {"structured_outputs": StructuredOutputsParams(json=task["schema"])}
        else:
            rest = {"ignore_eos": True, "detokenize": False}
        sampling = SamplingParams(temperature=0, max_tokens=new, **rest)
        prompts = [{"prompt_token_ids": prompt} for prompt in task["prompts"]]
        begin, used = time.perf_counter(), time.process_time()
        done = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - begin
        generated = sum(len(one.outputs[0].token_ids) for one in done)
        tokens = generated if new > 1 else sum(map(len, task["prompts"]))
        cpu = time.process_time() - used
        replies.write(json.dumps({"tokens": tokens, "seconds": seconds, "cpu": cpu}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
