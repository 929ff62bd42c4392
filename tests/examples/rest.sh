studio=http://127.0.0.1:7860/gradio_api
# A job: submit it, look at it until it is done, or cancel it.
curl -s $studio/run/submit --json '{"data": ["text_to_image", {"prompt": "a red apple", "seed": 7}, ""]}'
curl -s $studio/run/job --json '{"data": ["THE ID"]}'
curl -s $studio/run/cancel --json '{"data": ["THE ID"]}'
# The levels that a sampler visits: sampler, spacing, steps, model, strength, width, height.
curl -s $studio/run/snr_curve --json '{"data": ["Euler", "karras", 20, null, null, null, null]}'
