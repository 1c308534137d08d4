"""Every word about the conversation of Image + Text, in every language."""

from x2i_app.ui.i18n.languages import Text

GO_ON = Text("Go on from the last picture", "接着上一张图片继续")
UNDO = Text("Undo", "撤销")
ANEW = Text("Begin anew", "重新开始")
HINT = Text(
    "Make a picture, then say what to change; what was said and drawn so far is shown here.",
    "先生成一张图片，再说要改什么；说过的话和画过的图会显示在这里。",
)
