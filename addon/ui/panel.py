"""What all panels of the tab share."""


class ShapewrightPanel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Shapewright"
