"""The work of each stage, one module a stage: `work(request, platform, progress) -> report`."""
