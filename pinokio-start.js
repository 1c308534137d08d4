module.exports = {
  daemon: true,
  run: [
    {
      method: "shell.run",
      params: {
        venv: "env", // Pinokio's own Python is older than start.py needs
        venv_python: "3.12",
        message: "python start.py --no-browser", // Pinokio opens the page itself
        on: [{ event: "/(http:\\/\\/127\\.0\\.0\\.1:\\d+)/", done: true }],
      },
    },
    { method: "local.set", params: { url: "{{input.event[1]}}" } },
  ],
}
