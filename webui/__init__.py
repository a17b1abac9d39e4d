"""The studio: a browser app over the public functions of lora_diffusion and datasets_tools.

    python -m webui.keeper    runs jobs, apart from this app
    server.create_app         FastAPI: who one is, files, REST; the pages of Gradio are mounted in it

Nothing here loads torch: pictures are drawn and adapters trained in other processes.
"""
