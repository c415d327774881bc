"""ExFractalDB's cameras in OpenGL without a window (EGL), as its published script draws them.

Points of one pixel, white on black, depth test on, 45 degrees, 12 cameras on the equator at
distance 4, read back with glReadPixels. Needs PyOpenGL and an EGL driver; Mesa's llvmpipe draws on
the CPU. Written from the published geometry.
"""

import math
import os

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("EGL_PLATFORM", "surfaceless")
os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe: rasterise on the calling thread

import numpy as np
from OpenGL import EGL, GL
from OpenGL.GL import shaders

VERTEX = """#version 330
uniform mat4 camera; in vec3 point;
void main() { gl_Position = camera * vec4(point, 1.0); gl_PointSize = 1.0; }"""
FRAGMENT = """#version 330
out vec4 colour;
void main() { colour = vec4(1.0); }"""


class Camera:
    """An off-screen context with a frame buffer of `size` pixels."""

    def __init__(self, size: int):
        self.size = size
        display = EGL.eglGetDisplay(EGL.EGL_DEFAULT_DISPLAY)
        EGL.eglInitialize(display, None, None)
        EGL.eglBindAPI(EGL.EGL_OPENGL_API)
        wanted = [EGL.EGL_SURFACE_TYPE, EGL.EGL_PBUFFER_BIT, EGL.EGL_DEPTH_SIZE, 24]
        wanted += [EGL.EGL_RENDERABLE_TYPE, EGL.EGL_OPENGL_BIT, EGL.EGL_NONE]
        configs, count = (EGL.EGLConfig * 1)(), EGL.EGLint()
        EGL.eglChooseConfig(display, wanted, configs, 1, count)
        version = [EGL.EGL_CONTEXT_MAJOR_VERSION, 3, EGL.EGL_CONTEXT_MINOR_VERSION, 3]
        context = EGL.eglCreateContext(
            display, configs[0], EGL.EGL_NO_CONTEXT, [*version, EGL.EGL_NONE]
        )
        area = [EGL.EGL_WIDTH, size, EGL.EGL_HEIGHT, size, EGL.EGL_NONE]
        surface = EGL.eglCreatePbufferSurface(display, configs[0], area)
        EGL.eglMakeCurrent(display, surface, surface, context)
        self.array, self.buffer = GL.glGenVertexArrays(1), GL.glGenBuffers(1)
        GL.glBindVertexArray(self.array)
        self.program = shaders.compileProgram(
            shaders.compileShader(VERTEX, GL.GL_VERTEX_SHADER),
            shaders.compileShader(FRAGMENT, GL.GL_FRAGMENT_SHADER),
        )
        GL.glUseProgram(self.program)
        GL.glViewport(0, 0, size, size)
        GL.glEnable(GL.GL_DEPTH_TEST)

    def views(self, cloud: np.ndarray, seed: int, views: int = 12) -> list[np.ndarray]:
        """uint8[size, size, 3] of each camera."""
        points = cloud.astype(np.float32)
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self.buffer)
        GL.glBufferData(GL.GL_ARRAY_BUFFER, points.nbytes, points, GL.GL_STATIC_DRAW)
        place = GL.glGetAttribLocation(self.program, "point")
        GL.glEnableVertexAttribArray(place)
        GL.glVertexAttribPointer(place, 3, GL.GL_FLOAT, False, 0, None)
        jitter = np.random.default_rng(seed).uniform(-math.pi, math.pi, views)
        images = []
        for i in range(views):
            camera = _camera(math.radians(360 * i / views + 30 + jitter[i]))
            uniform = GL.glGetUniformLocation(self.program, "camera")
            GL.glUniformMatrix4fv(uniform, 1, True, camera)
            GL.glClear(GL.GL_COLOR_BUFFER_BIT | GL.GL_DEPTH_BUFFER_BIT)
            GL.glDrawArrays(GL.GL_POINTS, 0, len(points))
            read = GL.glReadPixels(0, 0, self.size, self.size, GL.GL_RGB, GL.GL_UNSIGNED_BYTE)
            images.append(np.frombuffer(read, np.uint8).reshape(self.size, self.size, 3))
        return images


def _camera(angle: float, near: float = 1.0, far: float = 100.0) -> np.ndarray:
    """float32[4, 4]: perspective times view, from -4 (cos, 0, -sin) towards the origin."""
    cos, sin = math.cos(angle), math.sin(angle)
    focal = 1 / math.tan(math.radians(22.5))
    view = np.array([[sin, 0, cos, 0], [0, 1, 0, 0], [-cos, 0, sin, -4], [0, 0, 0, 1]])
    depth, shift = (near + far) / (near - far), 2 * near * far / (near - far)
    lens = [[focal, 0, 0, 0], [0, focal, 0, 0], [0, 0, depth, shift], [0, 0, -1, 0]]
    return (np.array(lens) @ view).astype(np.float32)
