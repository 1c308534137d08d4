"""Gradio's own words, by its own keys: those that it has no Chinese for, and those that can say more about our page.

Its dictionary of simplified Chinese comes first, then ours, then its English; in English, ours comes first.
"""

from x2i_app.ui.i18n.languages import Text

GRADIO_WORDS = {
    "audio.recording_error": Text("The microphone did not start.", "无法开始录音。"),
    "common.download_all": Text("Download all", "全部下载"),
    "common.no_devices": Text("No camera found", "未找到设备"),
    "common.progress": Text("Progress", "进度"),
    "common.record": Text("Record", "录制"),
    "common.run": Text("Run", "运行"),
    "common.stop_recording": Text("Stop recording", "停止录制"),
    "chatbot.complete": Text("Complete", "完成"),
    "chatbot.copied_message": Text("Copied", "已复制"),
    "chatbot.copy_message": Text("Copy", "复制"),
    "image_editor.add_layer": Text("Add a layer", "添加图层"),
    "image_editor.brush": Text("Brush", "画笔"),
    "image_editor.brush_size": Text("Size of the brush", "画笔大小"),
    "image_editor.clear_canvas": Text("Clear", "清除"),
    "image_editor.color": Text("Colour", "颜色"),
    "image_editor.confirm_crop": Text("Crop to this", "确认裁剪"),
    "image_editor.crop": Text("Crop", "裁剪"),
    "image_editor.erase": Text("Erase", "擦除"),
    "image_editor.eraser_size": Text("Size of the eraser", "橡皮大小"),
    "image_editor.fit_to_screen": Text("Fit to screen", "适合屏幕"),
    "image_editor.layer": Text("Layer", "图层"),
    "image_editor.layers": Text("Layers", "图层列表"),
    "image_editor.pan": Text("Move around", "平移"),
    "image_editor.paste": Text("Paste", "粘贴"),
    "image_editor.redo": Text("Redo", "重做"),
    "image_editor.resize": Text("Resize", "调整大小"),
    "image_editor.save_changes": Text("Keep the changes", "保存更改"),
    "image_editor.select_draw_tool": Text("Choose a tool to start", "选择绘图工具开始"),
    "image_editor.show_layers": Text("Show layers", "显示图层"),
    "image_editor.upload": Text("Upload", "上传"),
    "image_editor.upload_image": Text("Upload a picture", "上传图片"),
    "image_editor.webcam": Text("Camera", "摄像头"),
    "image_editor.zoom_in": Text("Closer", "放大"),
    "image_editor.zoom_out": Text("Farther", "缩小"),
    "upload_text.drop_audio": Text("Drop a sound here", "将声音拖放到此处"),
    "upload_text.drop_file": Text("Drop a file here", "将文件拖放到此处"),
    "upload_text.drop_gallery": Text("Drop pictures here", "将图片拖放到此处"),
    "upload_text.drop_image": Text("Drop a picture here", "将图片拖放到此处"),
    "upload_text.drop_video": Text("Drop a film here", "将视频拖放到此处"),
    "upload_text.click_to_upload": Text("Choose a file", "选择文件"),
}

# What it says to screen readers by no key at all; the page's own script exchanges them.
GRADIO_LABELS = (
    Text("Capture from camera", "拍照"),
    Text("Click to upload or drop files", "点击上传或拖放文件"),
    Text("Empty value", "还没有内容"),
    Text("Gradio footer navigation", "页脚"),
    Text("Multimedia input field", "文字和文件"),
    Text("Paste from clipboard", "从剪贴板粘贴"),
    Text("Record audio", "录音"),
    Text("Reset to default value", "恢复默认值"),
    Text("Upload a file", "上传一个文件"),
    Text("Upload file", "上传文件"),
)
