import time

from gradio_client import Client

studio = Client("http://127.0.0.1:7860")
job = studio.predict("text_to_image", {"prompt": "a blue rocket", "steps": 20}, api_name="/submit")
state = {"state": "queued"}
while state["state"] in ("queued", "running"):
    time.sleep(0.2)
    files, state = studio.predict(job["id"], api_name="/job")
    print(state["state"], state["position"], state["seconds"])
print(files)
