"""vLLM without our code, for benchmarks/engines.py. Reads and writes JSON lines.

The first line holds the keyword arguments of `vllm.LLM`. Each further line starts a round:
{"prompts": token lists, "new": new tokens}. Its reply is {"tokens": tokens, "seconds": seconds}.
"""

import json
import os
import sys
import time

os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from vllm import LLM, SamplingParams


def main() -> None:
    """Run rounds until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is not a reply
    llm = LLM(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        task = json.loads(line)
        new = task["new"]
        sampling = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        prompts = [{"prompt_token_ids": prompt} for prompt in task["prompts"]]
        begin = time.perf_counter()
        done = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - begin
        generated = sum(len(one.outputs[0].token_ids) for one in done)
        tokens = generated if new > 1 else sum(map(len, task["prompts"]))
        replies.write(json.dumps({"tokens": tokens, "seconds": seconds}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
