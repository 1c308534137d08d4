// One-click start in Pinokio (https://pinokio.co): start.py installs on the first start and runs the app.
module.exports = {
  version: "2.0",
  title: "X2I Studio",
  description: "Anything in, an image out: text, images, video and audio",
  icon: "assets/x2i-tiny.png",
  menu: async (kernel, info) => {
    if (info.running("pinokio-start.js")) {
      const { url } = info.local("pinokio-start.js") || {}
      const terminal = { icon: "fa-solid fa-terminal", text: "Terminal", href: "pinokio-start.js" }
      return url ? [{ default: true, icon: "fa-solid fa-image", text: "Open", href: url }, terminal] : [terminal]
    }
    return [{ default: true, icon: "fa-solid fa-power-off", text: "Start", href: "pinokio-start.js" }]
  },
}
