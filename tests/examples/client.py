from gradio_client import Client

studio = Client("http://127.0.0.1:7860")
files, info = studio.predict(prompt="a red apple", steps=20, seed=7, api_name="/text_to_image")
print(files[0], info["snr"])  # a PNG, and the signal-to-noise ratio of every network call
