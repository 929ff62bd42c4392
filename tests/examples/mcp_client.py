import asyncio

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main():
    async with (
        streamablehttp_client("http://127.0.0.1:7860/gradio_api/mcp/") as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        print([tool.name for tool in (await session.list_tools()).tools])
        answer = await session.call_tool("text_to_image", {"prompt": "a red apple", "seed": 7})
        print([part.type for part in answer.content])  # the picture, its address, its recipe


asyncio.run(main())
